"""The rows of the overview: the words for skill, the reach of the axis, and pairs without a forecast."""

from __future__ import annotations

import pytest

from dash_app.components.formatting import percent
from dash_app.components.wording import compared_with_naive
from dash_app.pages.overview_rows import READ_HORIZONS, round_reach, screener
from make_us_rich.core.interval import Interval
from make_us_rich.documents import HORIZON_GRID
from tests.unit.dash_app.forecast_documents import make_forecast


@pytest.mark.parametrize(
    ("skill", "margin", "written"),
    [
        (0.018, 0.004, "better than naive by 1.8 % ± 0.4 %"),
        (-0.03, 0.01, "worse than naive by 3.0 % ± 1.0 %"),
        (0.003, 0.006, "no clear difference (+0.3 % ± 0.6 %)"),
        (0.0004, 0.0001, "better than naive by 0.04 % ± 0.01 %"),
        (0.07, None, "better than naive by 7.0 %, margin unknown"),
        (0.0, None, "as good as naive, margin unknown"),
        (None, None, "no score yet"),
    ],
)
def test_skill_is_written_in_words_with_its_margin(skill: float | None, margin: float | None, written: str) -> None:
    assert compared_with_naive(skill, margin).replace("\u00a0", " ") == written


@pytest.mark.parametrize(
    ("fraction", "written"), [(0.123, "12.3 %"), (0.049, "4.90 %"), (0.00004, "0.004 %"), (-0.0000999, "−0.010 %")]
)
def test_a_small_percentage_is_not_written_as_zero(fraction: float, written: str) -> None:
    assert percent(fraction).replace("\u00a0", " ") == written


def test_the_axis_is_round_and_one_wild_pair_of_many_does_not_stretch_it() -> None:
    assert round_reach([0.011, 0.028]) == pytest.approx(0.03)
    assert round_reach([0.03]) == pytest.approx(0.03)
    assert round_reach([0.02] * 39 + [0.9]) == pytest.approx(0.02)
    assert round_reach([0.02] * 4 + [0.9]) == pytest.approx(1.0)
    assert round_reach([]) == 0.01


def test_a_pair_without_a_forecast_has_the_reason_and_no_numbers() -> None:
    shown = screener([make_forecast(100.0)], {"eth_usdt": "no champion yet"}, {}, {}, Interval.H1)
    served, missing = shown["rows"]
    assert missing == {
        "pair": "eth_usdt",
        "label": "ETH / USDT",
        "href": "/?pair=eth_usdt&interval=1h",
        "message": "no champion yet",
    }
    assert served["bands"]["8"]["text"].endswith("median unchanged")
    assert served["notes"] == []


def test_a_row_has_the_expected_move_and_the_skill_of_each_shown_horizon() -> None:
    day, hour = make_forecast(100.0), make_forecast(100.0, horizons=1)
    unmeasured = [item.model_copy(update={"skill_vs_naive": None}) for item in day.horizons]
    shown = screener([day, hour, day.model_copy(update={"horizons": unmeasured})], {}, {}, {}, Interval.H1)
    rows = [(row["skills_text"].replace("\u00a0", " "), list(row["moves"])) for row in shown["rows"]]
    whole = "1 h +7.0 % ± 2.0 %, 8 h +7.0 %, 24 h +7.0 %"
    assert rows == [(whole, ["1", "8", "24"]), ("the next close alone", ["1"]), ("", ["1", "8", "24"])]
    assert shown["rows"][0]["moves"]["24"][0] == pytest.approx(0.008 * 24**0.5)


def test_the_skill_over_all_horizons_is_not_that_of_the_next_close() -> None:
    forecast = make_forecast(100.0)
    worse = [item.model_copy(update={"skill_vs_naive": 0.07 / item.horizon}) for item in forecast.horizons]
    next_alone = [worse[0], *(item.model_copy(update={"skill_vs_naive": None}) for item in worse[1:])]
    forecasts = [forecast.model_copy(update={"horizons": tuple(horizons)}) for horizons in (worse, next_alone)]

    measured, other = screener(forecasts, {}, {}, {}, Interval.H1)["rows"]
    mean = sum(0.07 / horizon for horizon in HORIZON_GRID) / len(HORIZON_GRID)
    assert measured["skill"] == pytest.approx(mean)
    assert measured["skill_text"].replace("\u00a0", " ") == "+2.0 % in the mean"
    assert (other["skill"], other["skill_text"].replace("\u00a0", " ")) == (0.07, "better than naive by 7.0 % ± 2.0 %")
    assert other["skills_text"] == "the next close alone"
    assert set(HORIZON_GRID) <= set(READ_HORIZONS), "the overview asks for what it averages"
