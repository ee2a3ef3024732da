from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from make_us_rich.core.errors import BadCandles
from make_us_rich.core.interval import HOUR_MS, TRAINING_CANDLES, Interval
from make_us_rich.core.pair import BITCOIN, Series
from make_us_rich.documents import CandleColumns
from make_us_rich.forecasting.architectures import TrainingConfig, context_length
from make_us_rich.market.window import MOST_WINDOW_CANDLES, window_candles
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


@pytest.mark.parametrize("interval", TRAINING_CANDLES)
def test_as_many_candles_as_a_model_reads_are_allowed_and_kept(interval: Interval) -> None:
    needed = context_length(TrainingConfig.of(interval))
    assert needed <= window_candles(interval) <= MOST_WINDOW_CANDLES
    sent = columns(needed) | {"open_time_ms": [row * interval.ms for row in range(needed)]}
    assert len(OwnColumns(**sent).candles(Series(BITCOIN, interval), "candles")) == needed


@pytest.mark.parametrize(("interval", "most"), [(Interval.M15, 1500), (Interval.H1, 1000), (Interval.D1, 1000)])
def test_the_error_for_too_many_candles_names_the_limit_of_the_interval(interval: Interval, most: int) -> None:
    sent = columns(most + 1)
    with pytest.raises((BadCandles, ValidationError), match=f"at most {most}"):
        OwnColumns(**sent).candles(Series(BITCOIN, interval), "candles")


def test_the_candles_of_an_answer_can_be_sent_back() -> None:
    assert set(CandleColumns.model_fields) <= set(OwnColumns.model_fields)


@pytest.mark.parametrize("ahead", [1, 2, 24])
def test_a_candle_that_has_not_closed_is_refused(ahead: int) -> None:
    last_open_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000) + (ahead - 1) * HOUR_MS
    sent = columns() | {"open_time_ms": [last_open_ms - (3 - row) * HOUR_MS for row in range(4)]}
    row = max(0, 4 - ahead)
    with pytest.raises(BadCandles, match=rf"row {row} has not closed: are the times UTC") as caught:
        OwnColumns(**sent).candles(Series(BITCOIN, Interval.H1), "candles")
    assert caught.value.field == "candles.open_time_ms"


def test_the_right_hours_of_the_week_change_nothing() -> None:
    sent = columns() | {"hour_of_week": [72.0, 73.0, 74.0, 75.0]}
    assert len(OwnColumns(**sent).candles(Series(BITCOIN, Interval.H1), "candles")) == 4


@pytest.mark.parametrize(
    ("hours", "says"),
    [
        ([72.0, 73.0, 75.0, 76.0], "row 2 is 75, and its time is 74 hours after Monday 00:00 UTC"),
        ([0.0, 1.0, 2.0, 3.0], "row 0 is 0"),
        ([240.0, 241.0, 242.0, 243.0], "row 0 is 240"),
        ([float("nan")] * 4, "row 0 is nan"),
        ([72.0, 73.0], "hour_of_week has 2 rows"),
    ],
)
def test_wrong_hours_of_the_week_are_refused(hours: list[float], says: str) -> None:
    with pytest.raises(BadCandles, match=says) as caught:
        OwnColumns(**columns() | {"hour_of_week": hours}).candles(Series(BITCOIN, Interval.H1), "candles")
    assert caught.value.field == "candles.hour_of_week"


@pytest.mark.parametrize("name", ["hour", "closes", "timestamp", "open_time", "hour_of_weeks"])
def test_a_column_that_is_not_known_is_not_ignored(name: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        OwnColumns(**columns() | {name: [1.0] * 4})


def test_columns_of_unequal_length_are_named() -> None:
    wrong = columns()
    wrong["close"].pop()
    with pytest.raises(BadCandles, match="close has 3 rows") as caught:
        OwnColumns(**wrong).candles(Series(BITCOIN, Interval.H1), "reference")
    assert caught.value.field == "reference.close"
