"""Candle intervals by Binance's names, and the arithmetic of their grid.

A candle is named by its open time; it closes one interval later, when the next one opens.
Source of the names: https://developers.binance.com/docs/binance-spot-api-docs/enums
"""

from __future__ import annotations

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


def interval_ms(interval: str) -> int:
    """Length of an interval in milliseconds. Raises InputError for an unknown name."""
    try:
        return INTERVAL_MS[interval]
    except KeyError:
        known = ", ".join(INTERVAL_MS)
        raise InputError(
            f"unknown interval {interval[:20]!r}: use one of {known}", field="interval"
        ) from None


def last_close_ms(at_ms: int, interval: str) -> int:
    """The newest close at or before `at_ms`; the candle that closed then opened one interval earlier."""
    return at_ms - at_ms % interval_ms(interval)
