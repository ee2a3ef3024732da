"""Networks of every shared architecture train on the device of their samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import clip_grad_norm_

from make_us_rich.core.interval import Interval
from make_us_rich.documents import HORIZONS
from make_us_rich.forecasting.architectures import ARCHITECTURES, architecture
from make_us_rich.forecasting.features import feature_layout
from make_us_rich.forecasting.samples import Samples


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "level_mse"])
def test_training_stays_on_the_device_of_its_samples(name: str) -> None:
    """Torch's fake tensors raise when devices are mixed, without needing a second device."""
    layout = feature_layout(Interval.H1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("meta"):
            network = architecture(name).build(layout, 4, 8)
            samples = Samples(
                torch.empty(600, 8, layout.sequence_size),
                torch.empty(600, layout.static_size),
                torch.empty(600, HORIZONS),
                torch.empty(600, HORIZONS),
                np.arange(600),
            )
        network.fit_scaling(samples)
        network.loss(samples.sequence, samples.static, samples.target).backward()
        clip_grad_norm_(network.parameters(), 1.0)
        network.adapt_to_pair(samples)
        network.calibrate(samples)
        network(samples.sequence, samples.static)
