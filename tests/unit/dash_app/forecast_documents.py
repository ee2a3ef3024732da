"""Forecasts as the API gives them, whose width grows with the root of the horizon."""

from __future__ import annotations

import numpy as np

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.documents import (
    HORIZONS,
    HORIZONS_WITH_PROBABILITY_UP,
    Flags,
    Forecast,
    HorizonForecast,
    Model,
    PastForecast,
    Quantiles,
    Tail,
)
from make_us_rich.market.candles import Candles

_NAMES = ("q05", "q10", "q25", "q50", "q75", "q90", "q95")
START_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS
AS_OF_MS = START_MS + 24 * HOUR_MS


def make_candles(close: float, count: int = 24) -> Candles:
    closes = close * np.exp(np.linspace(-0.01, 0.01, count))
    times = START_MS + HOUR_MS * np.arange(count)
    return Candles(times, closes, closes * 1.001, closes * 0.999, closes, np.ones(count))


def _quantiles(close: float, horizon: int = 1) -> Quantiles:
    prices = close * np.exp(np.array([-3, -2, -1, 0, 1, 2, 3]) / 200 * horizon**0.5)
    return Quantiles(**dict(zip(_NAMES, prices, strict=True)))


def _horizon(close: float, horizon: int) -> HorizonForecast:
    return HorizonForecast(
        horizon=horizon,
        target_close_ms=AS_OF_MS + horizon * HOUR_MS,
        quantiles=_quantiles(close, horizon),
        tail=Tail(scale=0.35, shape=0.15),
        probability_up=0.5 if horizon <= HORIZONS_WITH_PROBABILITY_UP else None,
        expected_move=0.008 * horizon**0.5,
        volatility=0.9,
        skill_vs_naive=0.07,
        coverage_80=0.8,
    )


def make_forecast(close: float, horizons: int = HORIZONS) -> Forecast:
    model = Model(
        name="btc_usdt_1h",
        version=3,
        as_of_ms=AS_OF_MS,
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
        as_of_ms=AS_OF_MS,
        last_close=close,
        target_open_ms=AS_OF_MS,
        target_close_ms=AS_OF_MS + HOUR_MS,
        quantiles=_quantiles(close),
        horizons=tuple(_horizon(close, horizon) for horizon in range(1, horizons + 1)),
        model=model,
        flags=flags,
    )


def make_past(close: float, hour: int, inside: bool | None) -> PastForecast:
    open_ms = START_MS + hour * HOUR_MS
    return PastForecast(
        horizon=1,
        target_open_ms=open_ms,
        target_close_ms=open_ms + HOUR_MS,
        model_version=3,
        foundation=False,
        last_close=close,
        quantiles=_quantiles(close),
        close=close,
        inside_80=inside,
    )
