"""Candles in the shape of version 1's `PUT /predict`: as pandas writes a frame to a dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from make_us_rich.intervals import interval_ms

FIVE_DAYS = 5 * 24
"""Candles of an hour in `data`."""


def first_version_candles(candles: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turn the columns of `GET /v1/candles` into version 1's names, types and row numbers, oldest row first."""
    opens: Sequence[int] = candles["open_time_ms"]
    step = interval_ms(candles["interval"])
    columns: dict[str, list[Any]] = {
        "timestamp": [f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%dT%H:%M:%S}" for time in opens],
        **{name: [str(value) for value in candles[name]] for name in _NUMBERS},
        "close_time": [time + step - 1 for time in opens],
    }
    return {name: _numbered(values) for name, values in columns.items()}


_NUMBERS = ("open", "high", "low", "close", "volume")


def _numbered(values: Sequence[Any]) -> dict[str, Any]:
    return {str(row): value for row, value in enumerate(values)}
