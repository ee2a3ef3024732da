"""Formats of prices, changes, ages and times."""

from __future__ import annotations

import pytest

from dash_app.components.formatting import age, change, duration, price, probability, utc_time


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (76_764.8123, "76,764.8"),
        (1_234_567.0, "1,234,567"),
        (2_935.06, "2,935.06"),
        (1.0, "1.00000"),
        (0.119001, "0.119001"),
        (0.0000123456789, "0.0000123457"),
        (0.0, "0.00000"),
    ],
)
def test_a_price_has_six_significant_digits_and_no_exponent(value: float, written: str) -> None:
    assert price(value) == written


@pytest.mark.parametrize(
    ("fraction", "written"),
    [(0.0031, "+0.31\u00a0%"), (-0.02, "\u22122.00\u00a0%"), (-0.00001, "no change"), (0, "no change")],
)
def test_a_change_that_rounds_to_zero_is_written_as_no_change(fraction: float, written: str) -> None:
    assert change(fraction) == written


@pytest.mark.parametrize(("hours", "written"), [(0.5, "30 min"), (1.2, "1 h"), (47, "47 h"), (72, "3 d")])
def test_an_age_is_in_the_unit_that_fits(hours: float, written: str) -> None:
    assert age(hours) == written


def test_a_time_names_its_zone() -> None:
    assert utc_time(1_700_000_000_000) == "14 Nov 22:13 UTC"


@pytest.mark.parametrize(
    ("time_ms", "written"), [(2_700_000, "45 min"), (3_600_000, "1 h"), (86_400_000, "24 h"), (259_200_000, "3 d")]
)
def test_a_duration_is_in_the_unit_that_fits(time_ms: int, written: str) -> None:
    assert duration(time_ms) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "less than 0.1 %"),
        (0.004, "0.4 %"),
        (0.00949, "0.9 %"),
        (0.372, "37 %"),
        (0.993, "99.3 %"),
        (1.0, "more than 99.9 %"),
    ],
)
def test_a_probability_is_never_written_as_certain(value: float, written: str) -> None:
    assert probability(value) == written
