"""A network's weights as numpy's npz: read without pickle."""

from __future__ import annotations

import io
from zipfile import BadZipFile

import numpy as np
import torch

from make_us_rich.core.errors import BadModel
from make_us_rich.forecasting.architectures import architecture
from make_us_rich.forecasting.networks import Network
from make_us_rich.forecasting.training_config import TrainingConfig

_AS_OF = "as_of_ms"


def to_npz(network: Network, as_of_ms: int) -> bytes:
    """With the time that the network's candles had closed by."""
    arrays = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, as_of_ms=np.int64(as_of_ms))
    return buffer.getvalue()


def from_npz(content: bytes, config: TrainingConfig, as_of_ms: int) -> Network:
    """The network that `to_npz` wrote.

    Raises BadModel when it is not one of this config, or has seen candles that closed after `as_of_ms`.
    """
    network = architecture(config.architecture).build(config.hidden, config.length)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            seen_ms = int(arrays[_AS_OF])
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != _AS_OF}
            network.load_state_dict(tensors)
    except (KeyError, ValueError, OSError, RuntimeError, BadZipFile) as error:
        raise BadModel(
            f"the weights to start from are not of a {config.architecture} of {config.hidden}: {error}"
        ) from None
    if seen_ms > as_of_ms:
        raise BadModel(
            f"the weights to start from know candles up to {seen_ms} ms, training may know only {as_of_ms} ms"
        )
    return network
