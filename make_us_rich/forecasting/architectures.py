"""The training config, the architectures that it may name, and the stored format of weights: npz without pickle."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from make_us_rich.core.errors import BadModel, InputError
from make_us_rich.core.interval import Interval
from make_us_rich.forecasting.features import FeatureLayout, feature_layout, level_features, sequence_features
from make_us_rich.forecasting.level_mse import LevelMse
from make_us_rich.forecasting.networks import Network, gru, linear, lstm, patchtst
from make_us_rich.market.candles import MAX_BRIDGED

_AS_OF = "as_of_ms"


@dataclass(frozen=True)
class TrainingConfig:
    """Lengths are in candles of the interval; `of` has those of each.

    Fine-tuning uses the fine_tune_* values, the foundation model the foundation_* ones.
    """

    interval: Interval = Interval.H1
    architecture: str = "lstm"
    length: int = 24
    hidden: int = 64
    epochs: int = 6
    learning_rate: float = 2e-3
    fine_tune_epochs: int = 2
    fine_tune_learning_rate: float = 3e-4
    foundation_epochs: int = 2
    foundation_draws: int = 10  # samples of each candle in an epoch of the foundation, over all pairs
    foundation_learning_rate: float = 4e-3
    batch: int = 256
    weight_decay: float = 0.1
    training: int = 8760  # at most; includes validation
    least_training: int = 500
    validation: int = 672
    holdout: int = 672
    level: int = 2016  # newest samples that fine-tuning adapts the level of volatility to
    calibration: int = 4032  # newest samples that fine-tuning calibrates on
    max_bridged: int = MAX_BRIDGED
    seed: int = 0

    @classmethod
    def of(cls, interval: Interval, architecture: str = "lstm") -> TrainingConfig:
        """Return the config of an interval. Raises InputError for one that no model is trained on."""
        return cls(interval=interval, architecture=architecture, **_LENGTHS[Interval.parse_trained(interval)])


# Batches are smaller where there are fewer candles, so that training has enough steps.
_LENGTHS: dict[Interval, dict[str, Any]] = {
    # twelve weeks, because more candles would make fine-tuning slow; a week each of validation and holdout
    Interval.M15: {"training": 8064},
    Interval.H1: {},
    # two years; four weeks each of validation and holdout, twelve weeks for the level, 24 to calibrate
    Interval.H4: {"training": 4380, "validation": 168, "holdout": 168, "level": 504, "calibration": 1008, "batch": 64},
    # four years; four months and two of validation and holdout
    Interval.D1: {
        "training": 1460,
        "least_training": 150,
        "validation": 90,
        "holdout": 60,
        "level": 180,
        "calibration": 365,
        "batch": 32,
    },
}


@dataclass(frozen=True)
class Architecture:
    """A network and the features that it reads.

    build: takes (layout, hidden, length). features: raw candles, reference and layout to (sequence, static); the first
    `layout.warmup` candles give none, if it needs the warm-up.
    """

    build: Callable[[FeatureLayout, int, int], Network]
    features: Callable[[Tensor, Tensor, FeatureLayout], tuple[Tensor, Tensor]] = sequence_features
    needs_warmup: bool = True


ARCHITECTURES = {
    "lstm": Architecture(lstm),
    "gru": Architecture(gru),
    "linear": Architecture(linear),
    "patchtst": Architecture(patchtst),
    "level_mse": Architecture(LevelMse, level_features, needs_warmup=False),
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
    warmup = feature_layout(config.interval).warmup if architecture(config.architecture).needs_warmup else 0
    return warmup + config.length


def least_candles(config: TrainingConfig) -> int:
    """Return the number of candles without a gap that a training from scratch or from the foundation needs."""
    return context_length(config) + config.least_training + config.validation + config.holdout


def new_network(config: TrainingConfig) -> Network:
    """Build a network with random weights. Raises InputError for an unknown architecture."""
    return architecture(config.architecture).build(feature_layout(config.interval), config.hidden, config.length)


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
    network = new_network(config)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            seen_ms = int(arrays[_AS_OF])
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != _AS_OF}
            network.load_state_dict(tensors)
    except (KeyError, ValueError, OSError, RuntimeError, BadZipFile) as error:
        raise BadModel(
            f"the weights to start from do not fit {config.architecture} of {config.interval} with {config.hidden} "
            f"hidden units: {error}"
        ) from None
    if seen_ms > as_of_ms:
        raise BadModel(
            f"the weights to start from have seen candles up to {seen_ms} ms, training may know only {as_of_ms} ms"
        )
    return network
