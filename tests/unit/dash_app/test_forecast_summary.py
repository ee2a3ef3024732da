"""Texts around the chart of a forecast."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from dash.development.base_component import Component

from dash_app.components import notices
from dash_app.components.forecast_summary import (
    headline,
    horizon_badges,
    model_badges,
    probability_above,
    served_record,
    since_the_last,
    warnings,
)
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.documents import Forecast
from make_us_rich.record.figures import MeasuredSkill, Share
from make_us_rich.record.track_record import Histogram, TrackRecord
from tests.unit.dash_app.forecast_documents import make_forecast, make_past


def _text(component: object) -> str:
    """Return the text of a component, without the tooltips."""
    if isinstance(component, Component):
        return _text(getattr(component, "children", None))
    if isinstance(component, list | tuple):
        return "".join(_text(item) for item in component)
    return "" if component is None else str(component).replace("\u00a0", " ")


def _measured(forecast: Forecast, horizon: int, skill: float | None) -> str:
    item = forecast.at(horizon).model_copy(update={"skill_vs_naive": skill, "coverage_80": skill})
    return _text(horizon_badges(forecast, item))


@pytest.mark.parametrize(
    ("horizon", "expected"),
    [
        (
            1,
            "BTC / USDT, close at 15 Nov 23:00 UTC (1 h ahead): 87,124.4 to 88,884.4 USDT with 80 % probability, "
            "median 88,000.0 (no change).",
        ),
        (
            8,
            "BTC / USDT, close at 16 Nov 06:00 UTC (8 h ahead): 85,545.9 to 90,524.6 USDT with 80 % probability, "
            "median 88,000.0 (no change).",
        ),
    ],
)
def test_the_sentence_speaks_of_the_horizon(horizon: int, expected: str) -> None:
    forecast = make_forecast(88_000.0)
    assert _text(headline(forecast, forecast.at(horizon))) == expected


def test_the_badges_show_the_figures_of_the_horizon() -> None:
    forecast = make_forecast(88_000.0)
    assert _text(horizon_badges(forecast, forecast.at(4))) == (
        "Probability up: 50 %Expected move: 1.60 %Volatility: 90 % a yearSkill: +7.0 % ± 2.0 % vs naiveCoverage: 80 %"
    )


def test_a_probability_of_a_rise_that_says_nothing_is_not_shown() -> None:
    forecast = make_forecast(88_000.0)
    assert _text(horizon_badges(forecast, forecast.at(24))).startswith("Expected move: ")


def test_a_record_that_was_never_measured_is_unknown() -> None:
    assert "Skill: unknownCoverage: unknown" in _measured(make_forecast(88_000.0), 8, None)


def test_the_margin_of_the_model_is_not_shown_with_the_skill_of_another_horizon() -> None:
    assert "Skill: +3.0 % vs naive" in _measured(make_forecast(88_000.0), 8, 0.03)


@pytest.mark.parametrize(
    ("above", "expected"),
    [
        ("88000", "50 % that the close 8 h ahead is above 88,000.0 USDT"),
        ("90.524,6", "10 % that the close 8 h ahead is above 90,524.6 USDT"),
        ("2e5", "less than 0.1 % that the close 8 h ahead is above 200,000 USDT"),
        ("1e-300", "more than 99.9 % that the close 8 h ahead is above "),
        (" ", "Enter a price above 0, such as 88,000.0."),
        ("90k", "“90k” is no price above 0. Enter a price above 0, such as 88,000.0."),
        ("0", "“0” is no price above 0. Enter"),
    ],
)
def test_the_probability_above_a_price(above: str, expected: str) -> None:
    forecast = make_forecast(88_000.0)
    assert _text(probability_above(forecast, forecast.at(8), above)).startswith(expected)


def test_a_model_of_one_horizon_is_named_as_such() -> None:
    assert "forecasts the next close alone" in _text(warnings(make_forecast(100.0, horizons=1), None, []))
    assert _text(warnings(make_forecast(100.0), None, [])) == ""


def test_a_reader_learns_that_the_shipped_model_made_the_forecast_and_how_old_its_data_are() -> None:
    own = make_forecast(88_000.0)
    flags = own.flags.model_copy(update={"expired": True, "foundation": True})
    model = own.model.model_copy(update={"shipped": True, "as_of_ms": 1_665_187_200_000, "age_hours": 24.0 * 1500})

    shown = [_text(item) for item in warnings(own.model_copy(update={"flags": flags, "model": model}), None, [])]

    assert shown == [
        "Shipped model. This pair has no model of its own before its first training run; the one that comes with the "
        "package is used. It was not fine-tuned on this pair, and learned from candles up to 8 Oct 2022, 1500 d ago."
    ]


def test_the_model_says_up_to_when_it_was_adapted_to_the_pair() -> None:
    own = make_forecast(88_000.0)
    adapted = own.model_copy(update={"model": own.model.model_copy(update={"adapted_ms": 1_665_187_200_000})})

    assert "adapted to this pair's candles up to 08 Oct 00:00 UTC." in str(model_badges(adapted, [], None))
    assert "adapted" not in str(model_badges(own, [], None))


def test_what_changed_since_the_last_forecast() -> None:
    before = make_past(100.0, 23, True)
    assert _text(since_the_last(make_forecast(100.0), [before])) == (
        "Since the last forecast: the price did not move and closed inside the 80 % band (99.0050 to 101.005). "
        "The band of the next close is as wide as before."
    )
    assert since_the_last(make_forecast(100.0), [make_past(100.0, 22, True)]) is None  # not the last one
    above = before.model_copy(update={"close": 102.0})
    assert "moved +2.00 % and closed above the 80 % band" in _text(since_the_last(make_forecast(100.0), [above]))


def test_the_served_forecasts_are_compared_with_volatility_models() -> None:
    assert "No served forecast is scored yet." in _text(served_record(None))
    share = Share(0.81, 0.77, 0.84, 1312)
    skills = (
        MeasuredSkill("naive", 0.061, 0.012, 1312),
        MeasuredSkill("EWMA", 0.004, 0.009, 1312),
        MeasuredSkill("GARCH", -0.021, 0.02, 1312),
    )
    record = TrackRecord(
        pair=Pair("btc", "usdt"),
        interval=Interval.H1,
        horizon=4,
        n=1312,
        independent=328.0,
        first_made_at=datetime(2026, 9, 29, 10, tzinfo=UTC),
        last_close_ms=0,
        models=(),
        by_foundation=0.0,
        coverage=share,
        weeks=(),
        skills=skills,
        reliability=(),
        pit=Histogram((), 0.0, 0.0),
        misses=(),
        recent=(),
    )
    assert _text(served_record(record)) == (
        "Served 4 h ahead since 29 Sep 2026: 81 % of 1,312 closes inside the 80 % band; "
        "6.1 % ± 1.2 % better than naive, no clear difference from EWMA (+0.4 % ± 0.9 %), "
        "2.1 % ± 2.0 % worse than GARCH. Track record"
    )
    few = replace(record, skills=(MeasuredSkill("GARCH", 0.2, None, 8),))
    assert "too few for a comparison with EWMA and GARCH" in _text(served_record(few))


def test_the_model_that_was_replaced_last_is_named_and_no_other() -> None:
    forecast = make_forecast(88_000.0)
    (notice,) = notices.new_model(forecast, [(9, True), (2, False), (3, False)])
    assert "Version 3 replaced version 2 since the last close" in _text(notice)
    (rolled_back,) = notices.new_model(forecast, [(3, False), (4, False)])
    assert "Version 3 replaced version 4 " in _text(rolled_back)
    assert notices.new_model(forecast, [(3, False)]) == notices.new_model(forecast, []) == []


def test_a_reader_learns_that_candles_are_missing() -> None:
    own = make_forecast(100.0)
    bridged = own.model_copy(update={"flags": own.flags.model_copy(update={"bridged": True})})
    assert _text(warnings(bridged, None, [])).startswith("Missing candles")
