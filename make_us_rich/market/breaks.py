"""Breaks of a price series: a redenomination, such as 1,000 old coins for a new one, under the same name.

A break is no volatility: the candles before it have another unit. A crash is none: there the hours around are wild too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from make_us_rich.market.candles import Candles

_LEAST_GAP = math.log(4)  # between a close and the next open; a market that trades has next to none
_CALM_AGAINST_GAP = 1 / 3  # of the gap: the range of the two candles beside it, at most
_NEAR_TEN = 0.05  # decades from a power of ten
_CALM_AGAINST_JUMP = 1 / 20  # of a jump inside a candle: the usual range of the candles around it, at most
_AROUND = 24  # candles
_SAME_SIZE = 0.1  # of the logarithm: a jump that is taken back was a wrong price, not a break


def breaks(candles: Candles) -> NDArray[np.int64]:
    """Return the rows with which a series in another unit begins, ascending; `candles` are clean."""
    if len(candles) < 2:
        return np.empty(0, dtype=np.int64)
    with np.errstate(all="ignore"):  # of rows that were not cleaned
        jump = np.diff(np.log(candles.close))
        gap = np.log(candles.open[1:] / candles.close[:-1])
        spread = np.log(candles.high / candles.low)
        beside = np.maximum(spread[1:], spread[:-1])
        between = (np.abs(gap) >= _LEAST_GAP) & (beside < _CALM_AGAINST_GAP * np.abs(gap))
        decades = jump / math.log(10)
        tenfold = (np.abs(decades) > 0.5) & (np.abs(decades - np.rint(decades)) < _NEAR_TEN)
    inside = [row for row in (np.flatnonzero(tenfold & ~between) + 1).tolist() if _is_calm_around(row, jump, spread)]
    found = np.sort(np.concatenate([np.flatnonzero(between) + 1, np.array(inside, dtype=np.int64)]))
    return _kept(found, jump)


def factor(candles: Candles, row: int) -> float:
    """Return by what the price was multiplied at a break, such as 0.001."""
    ratio = float(candles.close[row] / candles.close[row - 1])
    power = 10.0 ** round(math.log10(ratio))
    return power if abs(math.log(ratio / power)) < 0.5 and power != 1 else ratio


def _is_calm_around(row: int, jump: NDArray[np.float64], spread: NDArray[np.float64]) -> bool:
    around = np.concatenate([spread[max(0, row - _AROUND) : row], spread[row + 1 : row + 1 + _AROUND]])
    return bool(np.median(around) < _CALM_AGAINST_JUMP * abs(jump[row - 1]))


def _kept(found: NDArray[np.int64], jump: NDArray[np.float64]) -> NDArray[np.int64]:
    """Leave out jumps that are taken back soon: these candles were wrong, and the unit is still the same."""
    taken_back: set[int] = set()
    for first, second in zip(found[:-1].tolist(), found[1:].tolist(), strict=True):
        back = abs(jump[first - 1] + jump[second - 1]) < _SAME_SIZE * abs(jump[first - 1])
        if back and second - first <= _AROUND and first not in taken_back:
            taken_back |= {first, second}
    return np.array([row for row in found.tolist() if row not in taken_back], dtype=np.int64)
