from __future__ import annotations

from typing import Any

import pytest

from make_us_rich.core.errors import BadCandles
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Series
from serve_app.api.schemas import OwnColumns


def columns(n: int = 4) -> dict[str, list[Any]]:
    return {
        "open_time_ms": [hour * HOUR_MS for hour in range(n)],
        "open": [10.0] * n,
        "high": [11.0] * n,
        "low": [9.0] * n,
        "close": [10.5] * n,
        "volume": [0.0] * n,
    }


def test_valid_columns_become_candles() -> None:
    candles = OwnColumns(**columns()).candles(Series(BITCOIN, Interval.H1), "candles")
    assert len(candles) == 4
    assert candles.close.tolist() == [10.5] * 4


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        ("open_time_ms", 0, 1, "row 0 does not open on the 1h grid"),
        ("open_time_ms", 2, HOUR_MS, "row 2 does not open one interval"),
        ("open_time_ms", 3, 9 * HOUR_MS, "row 3 does not open one interval"),
        ("close", 1, 0.0, "row 1 is not above 0"),
        ("volume", 1, -1.0, "row 1 is below 0"),
        ("high", 2, 10.2, "row 2 is below open or close"),
        ("low", 3, 10.2, "row 3 is above open or close"),
    ],
)
def test_the_first_wrong_row_is_named(name: str, row: int, value: float, message: str) -> None:
    wrong = columns()
    wrong[name][row] = value
    with pytest.raises(BadCandles, match=message) as caught:
        OwnColumns.model_construct(**wrong).candles(Series(BITCOIN, Interval.H1), "candles")
    assert caught.value.field == f"candles.{name}"


def test_columns_of_unequal_length_are_named() -> None:
    wrong = columns()
    wrong["close"].pop()
    with pytest.raises(BadCandles, match="close has 3 rows") as caught:
        OwnColumns(**wrong).candles(Series(BITCOIN, Interval.H1), "reference")
    assert caught.value.field == "reference.close"
