"""Candles that a caller brings: read strictly, because a forecast of wrong rows looks like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from make_us_rich.core.errors import BadCandles
from make_us_rich.core.interval import Interval
from make_us_rich.market.candles import Candles

_PRICES = ("open", "high", "low", "close")


def read_columns(columns: Mapping[str, Sequence[Any]], interval: Interval, field: str) -> Candles:
    """Columns of equal length, oldest first, without a gap.

    Raises BadCandles naming the column, such as `candles.close`, and the first row at fault.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    for name, length in lengths.items():
        if length != lengths["open_time_ms"]:
            raise BadCandles(
                f"{name} has {length} rows, open_time_ms {lengths['open_time_ms']}: columns are of equal length",
                field=f"{field}.{name}",
            )
    times = np.array(columns["open_time_ms"], dtype=np.int64)
    values = {name: np.array(columns[name], dtype=np.float64) for name in (*_PRICES, "volume")}
    candles = Candles(times, **values)
    _check_grid(candles, interval, field)
    _check_values(candles, field)
    return candles


def _check_grid(candles: Candles, interval: Interval, field: str) -> None:
    step_ms = interval.ms
    times = candles.open_time_ms
    name = f"{field}.open_time_ms"
    _no_row(times % step_ms != 0, f"does not open on the {interval} grid", name)
    gaps = np.diff(times, prepend=times[:1] - step_ms) != step_ms
    _no_row(gaps, f"does not open one interval ({step_ms} ms) after the row before it", name)


def _check_values(candles: Candles, field: str) -> None:
    for name in _PRICES:
        _no_row(getattr(candles, name) <= 0, "is not above 0", f"{field}.{name}")
    _no_row(candles.volume < 0, "is below 0", f"{field}.volume")
    _no_row(candles.high < np.maximum(candles.open, candles.close), "is below open or close", f"{field}.high")
    _no_row(candles.low > np.minimum(candles.open, candles.close), "is above open or close", f"{field}.low")


def _no_row(wrong: np.ndarray, what: str, field: str) -> None:
    if wrong.any():
        raise BadCandles(f"{field}: row {int(wrong.argmax())} {what}", field=field)
