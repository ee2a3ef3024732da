"""Seeded random candles, and a training config small enough for tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.market.candles import Candles

START_MS = 1_600_000 * HOUR_MS // 1000
LENGTH = 2200
AS_OF_MS = START_MS + LENGTH * HOUR_MS

SMALL = replace(TrainingConfig(), hidden=8, epochs=2, length=8, validation=168, holdout=168)


def small(interval: Interval) -> TrainingConfig:
    """Return a config of an interval small enough for tests."""
    return replace(TrainingConfig.of(interval), hidden=8, epochs=2, length=8, validation=100, holdout=100)


def random_candles(seed: int, length: int = LENGTH, price: float = 100.0, interval: Interval = Interval.H1) -> Candles:
    """Return a random walk with periodic volatility, of candles from START_MS or the first on the grid after it."""
    random = np.random.default_rng(seed)
    volatility = 0.006 * np.exp(0.6 * np.sin(np.arange(length) / 40))
    close = price * np.exp(np.cumsum(volatility * random.standard_t(5, length)))
    opening = np.concatenate([[price], close[:-1]])
    spread = volatility * random.uniform(0.1, 0.6, length)
    return Candles(
        -(-START_MS // interval.ms) * interval.ms + interval.ms * np.arange(length, dtype=np.int64),
        opening,
        np.maximum(opening, close) * np.exp(spread),
        np.minimum(opening, close) * np.exp(-spread),
        close,
        random.lognormal(3, 1, length),
    )


LATER = 50
OWN, BITCOIN = random_candles(1, LENGTH + LATER), random_candles(2, LENGTH + LATER, price=30_000.0)
"""A pair and its reference, with candles that opened after AS_OF_MS."""


def without(candles: Candles, first: int, count: int) -> Candles:
    """Return the candles with a gap of `count` candles."""
    kept = np.ones(len(candles), dtype=bool)
    kept[first : first + count] = False
    return candles[kept]
