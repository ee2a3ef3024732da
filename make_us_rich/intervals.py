"""Candle intervals by Binance's names, and the arithmetic of their grid.

A candle is named by its open time; it closes one interval later, when the next one opens.
Source of the names: https://developers.binance.com/docs/binance-spot-api-docs/enums
"""

from __future__ import annotations

import re

from make_us_rich.errors import InputError

HOUR_MS = 3_600_000

INTERVAL_MS = {
    "5m": HOUR_MS // 12,
    "15m": HOUR_MS // 4,
    "30m": HOUR_MS // 2,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "1d": 24 * HOUR_MS,
}

TRAINED_INTERVALS = ("1h",)
"""Features count candles as hours, so no other interval can be trained or served."""

_LEAST_WINDOW = 24
_UNIT_MS = {"h": HOUR_MS, "d": 24 * HOUR_MS, "w": 168 * HOUR_MS}


def interval_ms(interval: str) -> int:
    """Length of an interval in milliseconds. Raises InputError for an unknown name."""
    try:
        return INTERVAL_MS[interval]
    except KeyError:
        known = ", ".join(INTERVAL_MS)
        raise InputError(
            f"unknown interval {interval[:20]!r}: use one of {known}", field="interval"
        ) from None


def trained_interval(interval: str) -> str:
    """Return the interval. Raises InputError unless models are trained on it."""
    if interval not in TRAINED_INTERVALS:
        raise InputError(
            f"interval {interval[:20]!r} is not supported, only hourly candles are trained and forecast: use 1h",
            field="interval",
        )
    return interval


def last_close_ms(at_ms: int, interval: str) -> int:
    """The newest close at or before `at_ms`; the candle that closed then opened one interval earlier."""
    return at_ms - at_ms % interval_ms(interval)


def duration_ms(text: str) -> int:
    """Read `5w`, `35d` or `840h`. Raises InputError for anything else."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text)
    if found is None:
        raise InputError(f"{text[:20]!r} is not a length of time: write 5w, 35d or 840h", field="every")
    return int(found[1]) * _UNIT_MS[found[2]]


def windows_between(from_ms: int, to_ms: int, every_ms: int, interval: str) -> list[int]:
    """When each window opens: `every_ms` long, one after the other on the grid, the last one over by `to_ms`."""
    step = interval_ms(interval)
    if every_ms < _LEAST_WINDOW * step or every_ms % step:
        raise InputError(
            f"a window must be whole candles of {interval}, {_LEAST_WINDOW} at least: make it longer",
            field="every",
        )
    first = -(-from_ms // step) * step
    found = list(range(first, to_ms - every_ms + 1, every_ms))
    if not found:
        raise InputError("no whole window fits between `from` and `to`: move them apart", field="to")
    return found
