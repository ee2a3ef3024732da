"""The population shift of a market: how much its moves, ranges and volume of late differ from those before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from make_us_rich.market.candles import Candles

_BINS = 10
_MIN_SHARE = 1e-4  # avoids the logarithm of an empty bin
_DAY = 24

Array = NDArray[np.float64]


def population_shift(before: Candles, now: Candles) -> dict[str, float]:
    """Return the population stability index of the size of moves, range and volume, each relative to its day.

    The index is the sum of (share now - share before) ln(share now / share before) over the deciles of `before`.
    """
    then, recent = _shift_features(before), _shift_features(now)
    return {name: _stability_index(then[name], recent[name]) for name in then}


def _shift_features(candles: Candles) -> dict[str, Array]:
    returns = np.diff(np.log(candles.close))
    spread = np.log(candles.high / candles.low)[1:]
    volume = candles.volume[1:]
    return {
        "move": returns[_DAY - 1 :] / (_day_mean(np.abs(returns)) + 1e-9),
        "range": np.log(spread[_DAY - 1 :] + 1e-6),
        "volume": np.log((volume[_DAY - 1 :] + 1e-12) / (_day_mean(volume) + 1e-12)),
    }


def _day_mean(values: Array) -> Array:
    mean: Array = np.convolve(values, np.full(_DAY, 1 / _DAY), mode="valid")
    return mean


def _stability_index(before: Array, now: Array) -> float:
    edges = np.quantile(before, np.linspace(0, 1, _BINS + 1)[1:-1])
    then, recent = (
        np.bincount(np.searchsorted(edges, values), minlength=_BINS) / len(values) + _MIN_SHARE
        for values in (before, now)
    )
    return float(((recent - then) * np.log(recent / then)).sum())
