"""Train on one thread, as a training worker does, and the pair that many tests look at once for all of them."""

from __future__ import annotations

import pytest
import torch

from make_us_rich.forecasting.recipe import FittedModel, fit
from make_us_rich.forecasting.training import TrainingTask
from tests.unit.forecasting.random_candles import AS_OF_MS, BITCOIN, OWN, SMALL

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fitted_pair() -> FittedModel:
    """Fit SMALL to OWN as of AS_OF_MS."""
    return fit(OWN, BITCOIN, pair="eth_usdt", task=TrainingTask(AS_OF_MS, SMALL))
