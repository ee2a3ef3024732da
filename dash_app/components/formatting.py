"""Text formats of prices, times, ages and messages."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_SIGNIFICANT_DIGITS = 6


def price(value: float) -> str:
    """Write six significant digits with thousands separators and no exponent: 76,764.8 or 0.0000123457."""
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, _SIGNIFICANT_DIGITS - 1 - magnitude)}f}"


def utc_time(time_ms: int) -> str:
    """Write day, month, hour and minute: 14 Nov 22:13 UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%d %b %H:%M UTC")


def age(hours: float) -> str:
    """Write minutes below an hour, hours below two days, days from then on."""
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"


def pair_label(pair: str) -> str:
    """Write BTC / USDT for btc_usdt."""
    return pair.replace("_", " / ").upper()


def change(fraction: float) -> str:
    """Write a change since the last close: +0.31% vs last close."""
    return "no change vs last close" if abs(fraction) < 0.00005 else f"{fraction:+.2%} vs last close"


def as_sentence(message: object) -> str:
    """Write an error's message or a reason with a capital letter and a full stop."""
    text = str(message)
    return f"{text[:1].upper()}{text[1:]}."
