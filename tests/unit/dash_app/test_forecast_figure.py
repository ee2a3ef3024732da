"""The chart of a forecast: the fan, the past bands, the axes, and the mark of the chosen horizon."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import plotly.graph_objects as go
import pytest

from dash_app.components.forecast_figure import BANDS, forecast_figure, horizon_marks
from dash_app.components.formatting import price
from dash_app.pages.forecasts.downloads import OtherModel
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.documents import HORIZONS, PastForecast, Quantiles
from tests.support.colours import SCHEMES, contrast, over, token
from tests.unit.dash_app.forecast_documents import AS_OF_MS, START_MS, make_candles, make_forecast, make_past


def _trace(figure: go.Figure, name: str) -> Any:
    return next(trace for trace in figure.data if trace.name == name)


def _ms(time: str) -> int:
    return round(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp() * 1000)


def _pieces_at(figure: go.Figure, share: int, time_ms: int) -> list[tuple[float, float]]:
    """Return the lower and upper ends of a band's parts at one time."""
    trace = _trace(figure, f"{share} % band")
    pieces: list[list[float]] = [[]]
    for time, value in zip(trace.x, trace.y, strict=True):
        if time is None:
            pieces.append([])
        elif _ms(time) == time_ms:
            pieces[-1].append(value)
    return [(min(piece), max(piece)) for piece in pieces]


@pytest.mark.parametrize("horizon", [1, 8, HORIZONS])
def test_the_bands_have_the_forecast_quantiles_and_never_overlap(horizon: int) -> None:
    forecast = make_forecast(100.0)
    figure = forecast_figure(make_candles(100.0), {"champion": forecast})
    pieces = sorted(
        piece for _, _, share, _ in BANDS for piece in _pieces_at(figure, share, AS_OF_MS + horizon * HOUR_MS)
    )

    quantiles = forecast.at(horizon).quantiles
    assert [low for low, _ in pieces] == [quantiles[name] for name in ("q05", "q10", "q25", "q75", "q90")]
    assert pieces[-1][1] == quantiles["q95"]
    assert all(low[1] == high[0] for low, high in pairwise(pieces) if low[1] != quantiles["q75"])


def test_the_fan_opens_at_the_last_close_and_has_a_step_for_each_horizon() -> None:
    figure = forecast_figure(make_candles(100.0), {"champion": make_forecast(100.0)})
    median = _trace(figure, "median")

    assert len(median.x) == 1 + HORIZONS
    assert _ms(median.x[0]) == AS_OF_MS
    for _, _, share, _ in BANDS:
        assert all(piece == (100.0, 100.0) for piece in _pieces_at(figure, share, AS_OF_MS))


def test_candles_and_fan_share_a_time_axis_on_which_the_last_candle_ends_where_the_fan_begins() -> None:
    figure = forecast_figure(make_candles(100.0), {"champion": make_forecast(100.0)})

    assert _ms(_trace(figure, "price").x[-1]) + HOUR_MS // 2 == AS_OF_MS
    start, end = (_ms(time) for time in figure.layout.xaxis.range)
    assert start == START_MS
    assert end >= AS_OF_MS + HORIZONS * HOUR_MS
    assert {trace.xaxis for trace in figure.data} == {None}  # all on the first axis


def test_every_close_ahead_can_be_read_off() -> None:
    forecast = make_forecast(88_000.0)
    fan = _trace(forecast_figure(make_candles(88_000.0), {"champion": forecast}), "fan")

    assert len(fan.hovertext) == HORIZONS
    quantiles = forecast.at(8).quantiles
    assert fan.hovertext[7].replace("<br>", " ") == (
        f"8 h ahead, {{{AS_OF_MS + 8 * HOUR_MS}}}: "
        f"80 % between {price(quantiles['q10'])} and {price(quantiles['q90'])}, "
        f"median {price(quantiles['q50'])}"
    )


def test_one_reading_names_every_model_wherever_the_pointer_is() -> None:
    """An outline that answered to the pointer hid what the fan says."""
    own, other = make_forecast(100.0), make_forecast(104.0)
    figure = forecast_figure(make_candles(100.0), {"champion": own, "ewma": other})
    fan = _trace(figure, "fan")

    read = fan.hovertext[7].replace("<br>", " ")
    for forecast, name in ((own, ""), (other, "EWMA: ")):
        low, median, high = (price(forecast.at(8).quantiles[key]) for key in ("q10", "q50", "q90"))
        assert f" {name}80 % between {low} and {high}, median {median}" in read
    assert [trace.hoverinfo for trace in figure.data if trace.name == "EWMA, 80 %"] == ["skip"]
    assert fan.base[7] <= own.at(8).quantiles["q05"]
    assert fan.base[7] + fan.y[7] >= other.at(8).quantiles["q90"]


def test_a_close_that_only_a_compared_model_forecasts_is_read_off_too() -> None:
    models = {"champion": make_forecast(100.0, horizons=1), "naive": make_forecast(101.0)}
    fan = _trace(forecast_figure(make_candles(100.0), models), "fan")
    assert len(fan.hovertext) == HORIZONS
    assert "naive: 80 %" in fan.hovertext[-1]


def test_a_single_bar_is_as_wide_as_its_candle() -> None:
    figure = forecast_figure(make_candles(100.0, 1), {"champion": make_forecast(100.0)}, [make_past(100.0, 23, True)])
    past = forecast_figure(make_candles(100.0), {"champion": make_forecast(100.0)}, [make_past(100.0, 23, True)])
    assert _trace(past, "past 80 % band").width == pytest.approx([0.85 * HOUR_MS])
    volume = next(trace for trace in figure.data if trace.yaxis == "y2")
    assert volume.width == pytest.approx(0.85 * HOUR_MS)


def test_a_mark_shows_time_and_both_ends_of_the_80_percent_band() -> None:
    forecast = make_forecast(100.0)
    marks = horizon_marks([forecast])

    assert len(marks) == HORIZONS
    for item, mark in zip(forecast.horizons, marks, strict=True):
        (line,) = mark["shapes"]
        assert _ms(line["x0"]) == _ms(line["x1"]) == item.target_close_ms
        ends = [item.quantiles["q90"], item.quantiles["q10"]]
        assert [label["y"] for label in mark["annotations"]] == ends
        assert [label["text"] for label in mark["annotations"]] == [price(end) for end in ends]


def test_a_model_of_one_horizon_gives_one_step() -> None:
    forecast = make_forecast(100.0, horizons=1)
    figure = forecast_figure(make_candles(100.0), {"champion": forecast})

    assert len(_trace(figure, "median").x) == 2
    assert len(horizon_marks([forecast])) == 1


def test_another_model_is_outlined_up_to_its_own_last_horizon() -> None:
    models = {"champion": make_forecast(100.0, horizons=1), "naive": make_forecast(101.0)}
    figure = forecast_figure(make_candles(100.0), models)
    outline = _trace(figure, "naive, 80 %")

    ends = [item.quantiles[name] for name in ("q10", "q90") for item in models["naive"].horizons]
    assert [value for value in outline.y if value not in (None, 101.0)] == ends
    assert outline.line.dash != "solid"
    assert outline.fill is None
    assert _ms(figure.layout.xaxis.range[1]) >= AS_OF_MS + HORIZONS * HOUR_MS


def test_the_outlines_differ_by_dash_and_not_only_by_colour() -> None:
    models = {name: make_forecast(100.0) for name in ("champion", *get_args(OtherModel))}
    figure = forecast_figure(make_candles(100.0), models)

    outlines = [_trace(figure, f"{name}, 80 %") for name in ("previous", "foundation", "naive", "EWMA")]
    assert len({outline.line.dash for outline in outlines}) == len(get_args(OtherModel))


@pytest.mark.parametrize("close", [77_180.9, 2_935.06, 0.117, 0.0000123, 1_500_000.0])
@pytest.mark.parametrize("narrow", [False, True])
def test_the_price_axis_has_enough_decimals_and_no_exponent(close: float, narrow: bool) -> None:
    figure = forecast_figure(make_candles(close), {"champion": make_forecast(close)}, narrow=narrow)
    pattern = figure.layout.yaxis.tickformat
    low, high = figure.layout.yaxis.range
    written = {f"{value:{pattern}}" for value in np.linspace(low, high, 6)}

    assert pattern.endswith("f")
    assert len(written) == 6  # no two ticks have the same label


def test_past_bands_are_drawn_behind_the_candles_and_end_before_the_fan() -> None:
    past = [
        make_past(100.0, 20, True),
        make_past(100.0, 21, False),
        make_past(100.0, 24, None),  # the candle that has not closed, which the fan shows
        make_past(100.0, -5, False),  # before the first candle shown
    ]
    figure = forecast_figure(make_candles(100.0), {"champion": make_forecast(100.0)}, past)

    assert len(_trace(figure, "past 80 % band").x) == 2
    assert len(_trace(figure, "close outside band").x) == 1
    names = [trace.name for trace in figure.data]
    assert names.index("past 80 % band") < names.index("price")


def test_backfilled_bands_are_drawn_apart_and_their_misses_are_not_marked() -> None:
    past = [make_past(100.0, 21, False).model_copy(update={"backfilled": True})]
    figure = forecast_figure(make_candles(100.0), {"champion": make_forecast(100.0)}, past)

    assert len(_trace(figure, "backfilled 80 % band").x) == 1
    assert {"past 80 % band", "close outside band"}.isdisjoint(trace.name for trace in figure.data)


def _price_range(figure: go.Figure) -> tuple[float, float]:
    low, high = figure.layout.yaxis.range
    return low, high


def _wild(past: PastForecast) -> PastForecast:
    """Return it with a band ten times as high as prices are."""
    return past.model_copy(update={"quantiles": Quantiles.of(10 * price for price in past.quantiles.prices())})


def test_the_price_axis_fits_what_is_shown_and_nothing_else() -> None:
    candles, models = make_candles(100.0), {"champion": make_forecast(100.0)}
    within = _price_range(forecast_figure(candles, models, [make_past(100.0, 20, True)]))
    ends = [models["champion"].at(HORIZONS).quantiles[name] for name in ("q05", "q95")]
    assert within[0] < min(ends) < max(ends) < within[1]
    assert within[1] - within[0] < 1.2 * (max(ends) - min(ends))

    old, coming = _wild(make_past(100.0, -5, True)), _wild(make_past(100.0, 24, None))
    assert _price_range(forecast_figure(candles, models, [make_past(100.0, 20, True), old, coming])) == within
    spike = replace(candles, high=candles.high * np.where(np.arange(24) == 0, 3, 1))
    assert _price_range(forecast_figure(spike, models))[1] > 290
    assert _price_range(forecast_figure(spike[1:], models)) == _price_range(forecast_figure(candles[1:], models))


def test_a_compared_model_is_in_view_but_never_flattens_the_fan() -> None:
    champion = make_forecast(100.0)
    alone = _price_range(forecast_figure(make_candles(100.0), {"champion": champion}))
    near = _price_range(forecast_figure(make_candles(100.0), {"champion": champion, "naive": make_forecast(104.0)}))
    assert near[1] > make_forecast(104.0).at(HORIZONS).quantiles["q90"]

    far = _price_range(forecast_figure(make_candles(100.0), {"champion": champion, "naive": make_forecast(1000.0)}))
    assert alone[1] < far[1] < 1000
    assert far[1] - far[0] <= 2 * (alone[1] - alone[0]), "the fan keeps half of the height at least"


def _seen(drawn: str, background: str) -> str:
    """Return what rgb(…) or rgba(…) looks like on a background."""
    red, green, blue, opacity = map(float, [*re.findall(r"[\d.]+", drawn), "1"][:4])
    return over(f"#{int(red):02x}{int(green):02x}{int(blue):02x}", opacity, background)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_past_bands_stand_out_from_the_background(scheme: str) -> None:
    backfilled = make_past(100.0, 21, False).model_copy(update={"backfilled": True})
    past = [make_past(100.0, 20, True), backfilled]
    figure = forecast_figure(make_candles(100.0), {"champion": make_forecast(100.0)}, past)

    background = token("card", scheme)
    served = _trace(figure, "past 80 % band").marker
    for fill in (served.color, _trace(figure, "backfilled 80 % band").marker.color):
        assert contrast(_seen(fill, background), background) >= 1.2
    assert contrast(_seen(served.line.color, background), background) >= 3


def test_the_shades_of_the_bands_are_clearly_different() -> None:
    opacities = [opacity for *_, opacity in BANDS]
    assert all(first / second > 1.5 for first, second in pairwise(opacities))
