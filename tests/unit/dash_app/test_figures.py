"""Contents of the figures."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from dash_app.components.figures import BANDS, forecast_figure, loss_figure, usage_figure
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.documents import Flags, Forecast, Model, PastForecast, Quantiles
from make_us_rich.market.candles import Candles

NAMES = ("q05", "q10", "q25", "q50", "q75", "q90", "q95")
START_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS


def _candles(close: float, count: int = 24) -> Candles:
    closes = close * np.exp(np.linspace(-0.01, 0.01, count))
    times = START_MS + HOUR_MS * np.arange(count)
    return Candles(times, closes, closes * 1.001, closes * 0.999, closes, np.ones(count))


def _quantiles(close: float) -> Quantiles:
    prices = close * np.exp(np.array([-3, -2, -1, 0, 1, 2, 3]) / 200)
    return Quantiles(**dict(zip(NAMES, prices, strict=True)))


def _forecast(close: float) -> Forecast:
    end_ms = START_MS + 24 * HOUR_MS
    model = Model(
        name="btc_usdt_1h",
        version=3,
        as_of_ms=end_ms,
        architecture="lstm",
        skill_vs_naive=0.07,
        skill_margin=0.02,
        coverage_80=0.8,
        age_hours=1.0,
    )
    flags = Flags(stale=False, simulated=False, expired=False, foundation=False)
    return Forecast(
        pair="btc_usdt",
        interval="1h",
        market="binance",
        as_of_ms=end_ms,
        last_close=close,
        target_open_ms=end_ms,
        target_close_ms=end_ms + HOUR_MS,
        quantiles=_quantiles(close),
        model=model,
        flags=flags,
    )


def _past(close: float, hour: int, inside: bool | None) -> PastForecast:
    open_ms = START_MS + hour * HOUR_MS
    return PastForecast(
        target_open_ms=open_ms,
        target_close_ms=open_ms + HOUR_MS,
        model_version=3,
        foundation=False,
        last_close=close,
        quantiles=_quantiles(close),
        close=close,
        inside_80=inside,
    )


def _traces(figure: go.Figure, name: str) -> Any:
    return next(trace for trace in figure.data if trace.name == name)


def test_the_bands_never_overlap_so_that_the_legend_shows_their_exact_colours() -> None:
    forecast = _forecast(100.0)
    figure = forecast_figure(_candles(100.0), {"champion": forecast})
    pieces = sorted(
        (base, base + height)
        for _, _, share, _ in BANDS
        for base, height in zip(
            _traces(figure, f"{share} % band").base, _traces(figure, f"{share} % band").y, strict=True
        )
    )

    assert [low for low, _ in pieces] == pytest.approx(
        [forecast.quantiles[name] for name in ("q05", "q10", "q25", "q75", "q90")]
    )
    assert all(low[1] == pytest.approx(high[0]) for low, high in pairwise(pieces))


@pytest.mark.parametrize("close", [77_180.9, 2_935.06, 0.117, 0.0000123, 1_500_000.0])
@pytest.mark.parametrize("narrow", [False, True])
def test_the_price_axis_has_enough_decimals_and_no_exponent(close: float, narrow: bool) -> None:
    figure = forecast_figure(_candles(close), {"champion": _forecast(close)}, narrow=narrow)
    pattern = figure.layout.yaxis.tickformat
    low, high = figure.layout.yaxis.range
    written = {f"{value:{pattern}}" for value in np.linspace(low, high, 6)}

    assert pattern.endswith("f")
    assert len(written) == 6  # no two ticks have the same label


def test_past_bands_are_drawn_behind_the_candles() -> None:
    past = [
        _past(100.0, 20, True),
        _past(100.0, 21, False),
        _past(100.0, 24, None),
        _past(100.0, -5, False),  # before the first candle shown
    ]
    figure = forecast_figure(_candles(100.0), {"champion": _forecast(100.0)}, past)

    assert len(_traces(figure, "past 80 % band").x) == 3
    assert len(_traces(figure, "close outside band").x) == 1
    names = [trace.name for trace in figure.data]
    assert names.index("past 80 % band") < names.index("price")


def test_each_model_has_its_own_column() -> None:
    models = {"champion": _forecast(100.0), "naive": _forecast(101.0)}
    figure = forecast_figure(_candles(100.0), models)

    assert set(_traces(figure, "50 % band").x) == {"champion", "naive"}


def test_the_shades_of_the_bands_are_clearly_different() -> None:
    opacities = [opacity for *_, opacity in BANDS]
    assert all(first / second > 1.5 for first, second in pairwise(opacities))


def test_loss_curves_differ_by_dash_and_not_only_by_colour() -> None:
    figure = loss_figure({"train_loss": [3.0, 2.0, 1.0], "validation_loss": [3.0, 2.5]})

    assert [trace.line.dash for trace in figure.data] == ["solid", "dash"]


def test_a_day_without_calls_has_a_bar_of_zero() -> None:
    days = [date(2026, 11, day) for day in range(1, 31)]
    figure = usage_figure({date(2026, 11, 3): 12}, days)

    assert list(figure.data[0].y)[:4] == [0, 0, 12, 0]
