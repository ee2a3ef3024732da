"""The candle rules: which rows are rejected, which gaps are bridged, and that no valid candle is lost."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from make_us_rich.core.errors import BadCandles
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.market.candles import Candles, clean, closed, from_klines, merge, regular_segments

START_MS = 1_772_323_200_000  # 2026-03-01 00:00 UTC
GOOD = ("10.0", "12.0", "9.0", "11.0", "5.0")


def hourly(*hours: int) -> Candles:
    """Make candles at these hours after START_MS; the close is 100 plus the hour."""
    times = START_MS + HOUR_MS * np.array(hours, dtype=np.int64)
    price = 100.0 + np.array(hours, dtype=float)
    return Candles(times, price, price + 1, price - 1, price, np.ones(len(hours)))


def hours_of(candles: Candles) -> list[int]:
    return ((candles.open_time_ms - START_MS) // HOUR_MS).tolist()


def candles_at(*times: np.ndarray) -> Candles:
    """Make candles that open at these times."""
    open_time_ms = np.concatenate(times).astype("datetime64[ms]").astype(np.int64)
    return Candles(open_time_ms, *[np.ones(len(open_time_ms))] * 5)


def every_hour(first: str, until: str) -> np.ndarray:
    return np.arange(np.datetime64(first, "ms"), np.datetime64(until, "ms"), np.timedelta64(1, "h"))


def test_klines_may_have_numbers_as_text() -> None:
    candles = from_klines([[START_MS, *GOOD, START_MS + HOUR_MS - 1, "55.0", 7, "2.0", "22.0", "0"]])

    assert candles.open_time_ms.tolist() == [START_MS]
    assert [float(getattr(candles, item.name)[0]) for item in fields(Candles)[1:]] == [10, 12, 9, 11, 5]
    assert len(from_klines([])) == 0


@pytest.mark.parametrize(
    "row", [[START_MS, "ten", *GOOD[1:]], [None, *GOOD], [START_MS, *GOOD[:3]], [], [2**70, *GOOD]]
)
def test_malformed_rows_are_refused(row: list[object]) -> None:
    with pytest.raises(BadCandles, match="not an open time and five numbers"):
        from_klines([[START_MS, *GOOD], row])


def test_a_candle_is_closed_from_the_moment_the_next_one_opens() -> None:
    candles = hourly(0, 1, 2)

    assert hours_of(closed(candles, Interval.H1, START_MS + 2 * HOUR_MS)) == [0, 1]
    assert hours_of(closed(candles, Interval.H1, START_MS + 2 * HOUR_MS - 1)) == [0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([START_MS + 60_000, *GOOD], "off the grid"),
        ([START_MS * 1000, *GOOD], "at an impossible time"),
        ([START_MS, "nan", *GOOD[1:]], "without a finite positive price"),
        ([START_MS, *GOOD[:3], "inf", "5"], "without a finite positive price"),
        ([START_MS, "10", "12", "0", "11", "5"], "without a finite positive price"),
        ([START_MS, "10", "10.5", "9", "11", "5"], "with high or low inside the body"),
        ([START_MS, "10", "12", "10.5", "11", "5"], "with high or low inside the body"),
        ([START_MS, *GOOD[:4], "-1"], "without a volume of zero or more"),
        ([START_MS, *GOOD[:4], "nan"], "without a volume of zero or more"),
    ],
)
def test_an_impossible_row_is_rejected_and_reported(row: list[object], reason: str) -> None:
    good = [START_MS + HOUR_MS, *GOOD]

    kept, report = clean(from_klines([row, good]), Interval.H1)

    assert hours_of(kept) == [1]
    assert report.rejected == {reason: 1}
    assert reason in str(report)


def test_the_report_names_the_time_of_the_first_example_of_each_reason() -> None:
    rows = [[START_MS + 28 * 60_000, *GOOD], [START_MS + HOUR_MS, *GOOD], [START_MS + HOUR_MS, *GOOD]]

    _, report = clean(from_klines(rows), Interval.H1)

    assert report.examples == ("2026-03-01 00:28 UTC off the grid", "2026-03-01 01:00 UTC duplicate")


def test_the_first_valid_duplicate_stays() -> None:
    rows = [[START_MS, "nan", *GOOD[1:]], [START_MS, *GOOD], [START_MS, "10.0", "12.0", "9.0", "11.5", "5.0"]]

    kept, report = clean(from_klines(rows), Interval.H1)

    assert kept.close.tolist() == [11.0]
    assert report.rejected == {"without a finite positive price": 1, "duplicate": 1}


def test_no_candles_at_all_are_clean() -> None:
    kept, report = clean(from_klines([]), Interval.H1)

    assert len(kept) == 0
    assert str(report) == "0 candles"


def test_a_gap_is_reported_and_kept() -> None:
    kept, report = clean(hourly(0, 1, 4, 5, 7), Interval.H1)

    assert hours_of(kept) == [0, 1, 4, 5, 7]
    assert report.missing == 3
    assert report.gaps == ("2 from 2026-03-01 02:00 UTC", "1 from 2026-03-01 06:00 UTC")


def test_a_short_gap_is_bridged_flat_and_marked() -> None:
    (segment,) = regular_segments(hourly(0, 1, 4), Interval.H1, max_bridged=2)

    assert hours_of(segment.candles) == [0, 1, 2, 3, 4]
    assert segment.bridged.tolist() == [False, False, True, True, False]
    for name in ("open", "high", "low", "close"):
        assert getattr(segment.candles, name)[2:4].tolist() == [101.0, 101.0]
    assert segment.candles.volume.tolist() == [1, 1, 0, 0, 1]


def test_a_longer_gap_splits() -> None:
    segments = regular_segments(hourly(0, 1, 4, 5), Interval.H1, max_bridged=1)

    assert [hours_of(segment.candles) for segment in segments] == [[0, 1], [4, 5]]
    assert regular_segments(hourly(), Interval.H1, max_bridged=1) == []


@given(st.sets(st.integers(0, 60), min_size=1), st.integers(0, 5))
def test_segments_hold_every_candle_on_a_full_grid(hours: set[int], max_bridged: int) -> None:
    candles = hourly(*sorted(hours))

    segments = regular_segments(candles, Interval.H1, max_bridged)

    real = [segment.candles[~segment.bridged] for segment in segments]
    assert hours_of(merge(real)) == sorted(hours)
    for segment in segments:
        assert set(np.diff(segment.candles.open_time_ms)) <= {HOUR_MS}
        runs = "".join("x" if bridged else " " for bridged in segment.bridged).split()
        assert max(map(len, runs), default=0) <= max_bridged
    for before, after in pairwise(segments):
        missing = hours_of(after.candles)[0] - hours_of(before.candles)[-1] - 1
        assert missing > max_bridged


@given(st.permutations(range(12)), st.lists(st.integers(0, 11)))
def test_order_and_repetition_change_nothing(order: list[int], repeated: list[int]) -> None:
    kept, report = clean(hourly(*order, *repeated), Interval.H1)

    assert hours_of(kept) == list(range(12))
    assert report.rejected.get("duplicate", 0) == len(repeated)
    again, second = clean(kept, Interval.H1)
    assert np.array_equal(again.open_time_ms, kept.open_time_ms)
    assert second.rejected == {}


@given(st.sets(st.integers(0, 40), min_size=2), st.integers(0, 40), st.integers(0, 3))
def test_later_candles_change_no_earlier_segment(hours: set[int], cut: int, max_bridged: int) -> None:
    as_of_ms = START_MS + cut * HOUR_MS
    candles = hourly(*sorted(hours))

    early = regular_segments(closed(candles, Interval.H1, as_of_ms), Interval.H1, max_bridged)
    late = regular_segments(candles, Interval.H1, max_bridged)

    for segment in early:
        match = next(s for s in late if s.candles.open_time_ms[0] == segment.candles.open_time_ms[0])
        for item in fields(Candles):
            one, other = (getattr(s.candles, item.name)[: len(segment.candles)] for s in (segment, match))
            assert np.array_equal(one, other)


@pytest.mark.parametrize("last", [0, 1])
def test_merge_keeps_the_last_part_of_equal_open_times(last: int) -> None:
    parts = [hourly(0, 1, 2), hourly(2, 3)]
    parts[1].close[0] = 77.0

    joined = merge(parts if last else parts[::-1])

    assert hours_of(joined) == [0, 1, 2, 3]
    assert joined.close[2] == (77.0 if last else 102.0)


def test_off_grid_candles_and_the_outage_before_them() -> None:
    """The open times of Binance's BTCUSDT candles in February 2018."""
    kept, report = clean(
        candles_at(
            every_hour("2018-01-15T00:00", "2018-02-08T01:00"),
            every_hour("2018-02-09T09:28:14.789", "2018-02-11T04:00"),
            every_hour("2018-02-11T04:00", "2018-02-25T00:00"),
        ),
        Interval.H1,
    )

    assert len(kept) == 909
    assert str(report) == (
        "909 candles, 75 missing in gaps (such as 75 from 2018-02-08 01:00 UTC); "
        "rejected 43 off the grid (such as 2018-02-09 09:28 UTC off the grid)"
    )


def test_a_halt_splits_the_market_in_two() -> None:
    """The open times of Binance's FTTUSDT candles around its halt of 311 days."""
    before, after = every_hour("2022-10-01", "2022-11-15T05:00"), every_hour("2023-09-22T08:00", "2023-10-15")
    kept, report = clean(candles_at(before, after), Interval.H1)

    assert report.gaps == ("7467 from 2022-11-15 05:00 UTC",)
    assert [len(segment.candles) for segment in regular_segments(kept, Interval.H1, max_bridged=3)] == [1085, 544]


def test_a_wick_is_valid_and_stays() -> None:
    """Binance's LINKUSDT candle of 2020-03-12 10:00 UTC, whose low is less than a ten-thousandth of its close."""
    kept, report = clean(from_klines([[1_584_007_200_000, 3.0634, 3.0765, 0.0001, 2.4693, 6364776.5]]), Interval.H1)

    assert report.rejected == {}
    assert kept.low.min() == 0.0001


@pytest.mark.parametrize(("column", "value"), [("high", 1e300), ("low", 1e-300), ("volume", 1e300)])
def test_absurd_prices_and_volumes_are_rejected(column: str, value: float) -> None:
    candles = hourly(*range(24))
    getattr(candles, column)[5] = value

    kept, report = clean(candles, Interval.H1)

    assert len(kept) == len(candles) - 1
    assert "1 with an absurd price or volume" in str(report)


@pytest.mark.parametrize("price", [1e-10, 1e-7, 1e10])
def test_the_cheapest_and_dearest_coins_are_clean(price: float) -> None:
    candles = hourly(*range(24))
    for column in (candles.open, candles.high, candles.low, candles.close):
        column[:] = price

    assert clean(candles, Interval.H1)[1].rejected == {}
