"""Substitutes for candles that a forecast needs and the exchange lacks: in long gaps, and before a pair's first one.

They are for serving alone: training reads no candle that was made here. They repeat candles of the same times of day,
at the price level beside them, so that a model sees a usual volatility. Flat ones would make it forecast a calm market:
see docs/explanation/forecasting.md for what both cost.
"""

from __future__ import annotations

import numpy as np

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.times import utc_text
from make_us_rich.market.candles import MAX_BRIDGED, Candles, concatenate, merge

LONGEST_BRIDGE = 72
"""Candles of the longest gap that is bridged. After a longer one a pair begins anew, as a young one does."""

_LEAST_KNOWN = 48
_DAY_MS = 24 * HOUR_MS
_WEEK = 7  # days


def bridge_gaps(candles: Candles, interval: Interval) -> tuple[Candles, int]:
    """Fill the gaps of clean candles of more than MAX_BRIDGED and up to LONGEST_BRIDGE candles.

    A gap with too few candles before it stays. Returns the candles, and the end of the newest bridged gap; 0 for none.
    """
    step, until_ms = interval.ms, 0
    missing = np.diff(candles.open_time_ms) // step - 1
    for row in np.flatnonzero((missing > MAX_BRIDGED) & (missing <= LONGEST_BRIDGE)).tolist():
        first_ms, end_ms = int(candles.open_time_ms[row]) + step, int(candles.open_time_ms[row + 1])
        count = (end_ms - first_ms) // step
        back = -(-count // _period(interval)) * _period(interval) * step  # whole days
        at = int(np.searchsorted(candles.open_time_ms, first_ms))
        source = candles[(candles.open_time_ms >= first_ms - back) & (candles.open_time_ms < end_ms - back)]
        if at and len(source) == count:
            repeated = _moved(source, by_ms=back, factor=float(candles.close[at - 1] / source.open[0]))
            candles, until_ms = merge([candles, repeated]), end_ms
    return candles, until_ms


def extend_back(candles: Candles, interval: Interval, count: int) -> Candles:
    """Return at least `count` candles: those before the first one repeat the first days, at most a week of them.

    candles: without a gap. Raises NotEnoughHistory for less than two days of candles, or less than 48.
    """
    least, step = max(_LEAST_KNOWN, 2 * _period(interval)), interval.ms
    if len(candles) < least:
        begins_ms = int(candles.open_time_ms[0]) if len(candles) else 0
        ready = f", which will be there at {utc_text(begins_ms + least * step)}" if begins_ms else ""
        raise NotEnoughHistory(
            f"{len(candles)} candles since the pair began or since its last gap, {utc_text(begins_ms)}: a forecast "
            f"needs {least}{ready}"
        )
    days = min(_WEEK, len(candles) // _period(interval))
    block = candles[: days * _period(interval)]
    length_ms = len(block) * step
    parts = [candles]
    for number in range(1, -(-max(0, count - len(candles)) // len(block)) + 1):
        factor = float(parts[0].open[0] / block.close[-1])
        parts.insert(0, _moved(block, by_ms=-number * length_ms, factor=factor))
    return concatenate(parts)[-max(count, len(candles)) :]


def _period(interval: Interval) -> int:
    """Return the candles of a day."""
    return max(1, _DAY_MS // interval.ms)


def _moved(candles: Candles, *, by_ms: int, factor: float) -> Candles:
    high, low = candles.high * factor, candles.low * factor
    return Candles(
        candles.open_time_ms + by_ms, candles.open * factor, high, low, candles.close * factor, candles.volume
    )
