"""The architectures that a config may name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from make_us_rich.core.errors import InputError
from make_us_rich.forecasting.features import WARMUP, sequence_features
from make_us_rich.forecasting.level_mse import LevelMse, level_features
from make_us_rich.forecasting.networks import Network, gru, linear, lstm, patchtst


@dataclass(frozen=True)
class Architecture:
    """How raw candles become what a network reads (`warmup` candles are lost by it), and the network.

    build takes (hidden, length).
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
    """Raises InputError for a name that is not in ARCHITECTURES."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"unknown architecture {name[:40]!r}: use one of {known}", field="architecture") from None
