"""How prices, times and ages are written."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from urllib.parse import parse_qs

_SIGNIFICANT_DIGITS = 6


def price(value: float) -> str:
    """Six significant digits, thousands separated, never with an exponent: 76,764.8 or 0.0000123457."""
    return f"{value:,.{decimals(value)}f}"


def decimals(value: float) -> int:
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return max(0, _SIGNIFICANT_DIGITS - 1 - magnitude)


def clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%d %b %H:%M UTC")


def age(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"


def pair_label(pair: str) -> str:
    return pair.replace("_", " / ").upper()


def change(fraction: float) -> str:
    """Against now, such as +0.31 %; what rounds to nothing is said to be nothing."""
    return "no change from now" if abs(fraction) < 0.00005 else f"{fraction:+.2%} from now"


def asked_pair(search: str | None) -> str:
    """Of the part after the path, such as ?pair=btc_usdt; empty when there is none."""
    return parse_qs((search or "").lstrip("?")).get("pair", [""])[0]
