"""Candles in Binance's words: 12-column rows, other intervals, the candle that is still open."""

from __future__ import annotations

from typing import Any

import numpy as np

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.market.candles import Candles

SERVED_INTERVALS = tuple(name for name in Interval if name.ms >= HOUR_MS)


def rows_of(
    candles: Candles, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
) -> list[list[Any]]:
    """Rows opened inside [start, end] and not after now; the first `limit` from a start, else the last."""
    length = Interval(interval).ms
    grouped = candles if length == HOUR_MS else _grouped(candles, length)
    keep = grouped.open_time_ms <= now_ms
    if start_ms is not None:
        keep &= grouped.open_time_ms >= start_ms
    if end_ms is not None:
        keep &= grouped.open_time_ms <= end_ms
    found = grouped[keep]
    page = found[:limit] if start_ms is not None else found[-limit:]
    return [_row(page, index, length, now_ms) for index in range(len(page))]


def _row(candles: Candles, index: int, length: int, now_ms: int) -> list[Any]:
    opened = int(candles.open_time_ms[index])
    first, high, low, last, volume = (
        float(column[index]) for column in (candles.open, candles.high, candles.low, candles.close, candles.volume)
    )
    part = min(1.0, (now_ms - opened) / length)
    if part < 1:  # still open: a part of the way, and no future in high and low
        last, volume = first + part * (last - first), part * volume
        high, low = max(first, last), min(first, last)
    quote = volume * (first + last) / 2
    texts = [f"{price:.8f}" for price in (first, high, low, last, volume)]
    trades = int(volume * 10) % 100_000
    taker = [f"{volume / 2:.8f}", f"{quote / 2:.8f}"]
    return [opened, *texts, opened + length - 1, f"{quote:.8f}", trades, *taker, "0"]


def _grouped(candles: Candles, length: int) -> Candles:
    opens, starts = np.unique(candles.open_time_ms // length * length, return_index=True)
    ends = np.append(starts[1:], len(candles)) - 1
    return Candles(
        opens,
        candles.open[starts],
        np.maximum.reduceat(candles.high, starts),
        np.minimum.reduceat(candles.low, starts),
        candles.close[ends],
        np.add.reduceat(candles.volume, starts),
    )
