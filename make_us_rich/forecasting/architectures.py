"""The training config, the architectures that it may name, and the stored format of weights: npz without pickle."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from make_us_rich.core.errors import BadModel, InputError
from make_us_rich.forecasting.features import WARMUP, level_features, sequence_features
from make_us_rich.forecasting.networks import LevelMse, Network, gru, linear, lstm, patchtst
from make_us_rich.market.candles import MAX_BRIDGED

_AS_OF = "as_of_ms"


@dataclass(frozen=True)
class TrainingConfig:
    """Lengths are in candles. Fine-tuning uses the fine_tune_* values, the foundation model the foundation_* ones."""

    architecture: str = "lstm"
    length: int = 24
    hidden: int = 64
    epochs: int = 6
    learning_rate: float = 2e-3
    fine_tune_epochs: int = 2
    fine_tune_learning_rate: float = 3e-4
    foundation_epochs: int = 2
    foundation_learning_rate: float = 4e-3
    foundation_views: int = 32  # at most so often does training see one hour, over all pairs and epochs
    batch: int = 256
    weight_decay: float = 0.1
    training: int = 8760  # at most; includes validation
    validation: int = 672
    holdout: int = 672
    level: int = 2016  # newest samples that fine-tuning adapts the level of volatility to
    calibration: int = 4032  # newest samples that fine-tuning calibrates on
    max_bridged: int = MAX_BRIDGED
    seed: int = 0


@dataclass(frozen=True)
class Architecture:
    """A network and the features that it reads.

    build: takes (hidden, length). features: raw candles to (sequence, static); the first `warmup` candles give none.
    """

    build: Callable[[int, int], Network]
    features: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = sequence_features
    warmup: int = WARMUP


ARCHITECTURES = {
    "lstm": Architecture(lstm),
    "gru": Architecture(gru),
    "linear": Architecture(linear),
    "patchtst": Architecture(patchtst),
    "level_mse": Architecture(LevelMse, level_features, warmup=0),
}


def architecture(name: str) -> Architecture:
    """Look up an architecture. Raises InputError for an unknown name."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"unknown architecture {name[:40]!r}: use one of {known}", field="architecture") from None


def context_length(config: TrainingConfig) -> int:
    """Return the number of candles that a forecast needs. Raises InputError for an unknown architecture."""
    return architecture(config.architecture).warmup + config.length


def to_npz(network: Network, as_of_ms: int) -> bytes:
    """Serialise weights and buffers, with the last close that training has seen."""
    arrays = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, as_of_ms=np.int64(as_of_ms))
    return buffer.getvalue()


def from_npz(content: bytes, config: TrainingConfig, as_of_ms: int) -> Network:
    """Build the network that `to_npz` serialised.

    Raises BadModel when it does not fit the config, or has seen candles that closed after `as_of_ms`.
    """
    network = architecture(config.architecture).build(config.hidden, config.length)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            seen_ms = int(arrays[_AS_OF])
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != _AS_OF}
            network.load_state_dict(tensors)
    except (KeyError, ValueError, OSError, RuntimeError, BadZipFile) as error:
        raise BadModel(
            f"the weights to start from do not fit {config.architecture} with {config.hidden} hidden units: {error}"
        ) from None
    if seen_ms > as_of_ms:
        raise BadModel(
            f"the weights to start from have seen candles up to {seen_ms} ms, training may know only {as_of_ms} ms"
        )
    return network
