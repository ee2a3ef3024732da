"""Kline rows as Binance sends them, of any interval from an hour on, made from hourly candles.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
"""

from __future__ import annotations

from typing import Any

import numpy as np

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.market.candles import Candles

_WEEK, _FIRST_MONDAY = 7 * 24 * HOUR_MS, 4 * 24 * HOUR_MS  # milliseconds; 1970 began on a Thursday
SERVED_INTERVALS = {str(name): (name.ms, 0) for name in Interval if name.ms >= HOUR_MS} | {"1w": (_WEEK, _FIRST_MONDAY)}
"""Name: (length, the time that a candle opened at), milliseconds."""


def kline_rows(
    candles: Candles, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
) -> list[list[Any]]:
    """Return the rows opened inside [start, end] and not after now: the first `limit` from a start, else the last."""
    length, first_ms = SERVED_INTERVALS[interval]
    aggregated = candles if length == HOUR_MS else _aggregate(candles, length, first_ms)
    keep = aggregated.open_time_ms <= now_ms
    if start_ms is not None:
        keep &= aggregated.open_time_ms >= start_ms
    if end_ms is not None:
        keep &= aggregated.open_time_ms <= end_ms
    found = aggregated[keep]
    page = found[:limit] if start_ms is not None else found[-limit:]
    return [_row(page, index, length, now_ms) for index in range(len(page))]


def _row(candles: Candles, index: int, length: int, now_ms: int) -> list[Any]:
    opened = int(candles.open_time_ms[index])
    first, high, low, last, volume = (
        float(column[index]) for column in (candles.open, candles.high, candles.low, candles.close, candles.volume)
    )
    elapsed = min(1.0, (now_ms - opened) / length)
    if elapsed < 1:  # still open: interpolate, so that high and low reveal nothing of the future
        last, volume = first + elapsed * (last - first), elapsed * volume
        high, low = max(first, last), min(first, last)
    quote = volume * (first + last) / 2
    texts = [_digits(value) for value in (first, high, low, last, volume)]
    trades = int(volume * 10) % 100_000
    taker = [f"{volume / 2:.8f}", f"{quote / 2:.8f}"]
    return [opened, *texts, opened + length - 1, f"{quote:.8f}", trades, *taker, "0"]


def _digits(value: float) -> str:
    """Return eight decimals, and more for a price that would lose its digits or become 0."""
    return f"{value:.8f}" if value == 0 or value >= 1e-3 else f"{value:.20f}".rstrip("0")


def _aggregate(candles: Candles, length: int, first_ms: int) -> Candles:
    numbers, starts = np.unique((candles.open_time_ms - first_ms) // length, return_index=True)
    opens = numbers * length + first_ms
    ends = np.append(starts[1:], len(candles)) - 1
    return Candles(
        opens,
        candles.open[starts],
        np.maximum.reduceat(candles.high, starts),
        np.minimum.reduceat(candles.low, starts),
        candles.close[ends],
        np.add.reduceat(candles.volume, starts),
    )
