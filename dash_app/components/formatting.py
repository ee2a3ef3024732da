"""Text formats of prices, times, ages and messages."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.times import from_ms

_SIGNIFICANT_DIGITS = 6
_ARCHITECTURES = {"lstm": "LSTM", "gru": "GRU", "patchtst": "PatchTST"}

Time = int | datetime
"""Milliseconds since 1970, or a time with its zone."""


def price(value: float) -> str:
    """Write six significant digits with thousands separators and no exponent: 76,764.8 or 0.0000123457."""
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, _SIGNIFICANT_DIGITS - 1 - magnitude)}f}"


def utc(time: Time) -> datetime:
    return time.astimezone(UTC) if isinstance(time, datetime) else from_ms(time)


def utc_time(time: Time) -> str:
    """Write day, month, hour and minute: 14 Nov 22:13 UTC."""
    return f"{utc(time):%d %b %H:%M} UTC"


def minute(time: Time) -> str:
    """Write a time for a column that is sorted by its text: 2026-11-14 22:13."""
    return f"{utc(time):%Y-%m-%d %H:%M}"


def chart_time(time_ms: int) -> str:
    """Return a mark in a text of the chart, which assets/chart.js replaces with the time on the reader's clock."""
    return f"{{{time_ms}}}"


def utc_day(time: Time) -> str:
    """Write day, month and year: 8 Oct 2022."""
    return f"{utc(time).day} {utc(time):%b %Y}"


def plot_time(time: Time) -> str:
    """Write a time for an axis of Plotly, which knows no zones: 2026-11-14T22:13:20.000."""
    return utc(time).replace(tzinfo=None).isoformat(timespec="milliseconds")


def age(hours: float) -> str:
    """Write minutes below an hour, hours below two days, days from then on."""
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"


def duration(time_ms: int) -> str:
    """Write a number of candles as time: 45 min, 1 h 15 min, 8 h, 3 d."""
    minutes, hours = time_ms // (HOUR_MS // 60), time_ms / HOUR_MS
    if minutes % 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes > 60 else f"{minutes} min"
    return f"{hours / 24:.0f} d" if hours > 24 and hours % 24 == 0 else f"{hours:.0f} h"


def probability(value: float) -> str:
    """Write a probability with the digits that it deserves: 37 %, 0.4 %, less than 0.1 %."""
    if value < 0.001:
        return "less than 0.1 %"
    if value > 0.999:
        return "more than 99.9 %"
    return f"{value * 100:.1f} %" if value < 0.0095 or value > 0.9905 else f"{value:.0%}".replace("%", " %")


def percent(fraction: float, *, decimals: int = 2, signed: bool = False) -> str:
    """Write a fraction in percent, never a small one as zero: 12.3 %, 4.90 %, 0.004 %. `decimals`: of 1 to 10 %."""
    magnitude = int(f"{fraction * 100:e}".partition("e")[2])
    shown = -magnitude if magnitude < -decimals else max(0, min(decimals, decimals - magnitude))
    return f"{fraction * 100:{'+' if signed else ''}.{shown}f}\u00a0%".replace("-", "\u2212")


def architecture_name(architecture: str) -> str:
    """Write LSTM for lstm, as its authors do."""
    return _ARCHITECTURES.get(architecture, architecture)


def pair_label(pair: str) -> str:
    """Write BTC / USDT for btc_usdt."""
    return pair.replace("_", " / ").upper()


def change(fraction: float) -> str:
    """Write a change since the last close: +0.31 %."""
    return "no change" if abs(fraction) < 0.00005 else percent(fraction, signed=True)


def as_sentence(message: object) -> str:
    """Write an error's message or a reason with a capital letter and a full stop."""
    text = str(message).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
