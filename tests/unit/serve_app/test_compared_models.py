"""The baselines that a replica computes from its candles."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Series
from make_us_rich.core.settings import Settings
from make_us_rich.documents import HORIZONS, Forecast, ReplicaError
from make_us_rich.forecasting.live_baselines import newest_forecast
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import Window
from serve_app.replica.compared_models import ComparedModels
from serve_app.replica.models import ModelCache

NOON_MS = 1_700_049_600_000


def _window(count: int) -> Window:
    close = 100 * np.exp(np.cumsum(0.01 * np.random.default_rng(4).normal(size=count)))
    candles = Candles(NOON_MS - HOUR_MS * np.arange(count, 0, -1), *[close] * 5)
    return Window(candles, candles, Interval.H1)


def _compared(tmp_path: Path, choice: str, window: Window) -> Forecast | ReplicaError:
    compared = ComparedModels(Series(BITCOIN, Interval.H1), Settings(cache_folder=str(tmp_path)), ModelCache(1))
    return asyncio.run(compared.forecast(choice, window, NOON_MS))


def test_ewma_is_the_forecast_that_is_scored_and_knows_no_skill(tmp_path: Path) -> None:
    window = _window(1000)
    forecast = _compared(tmp_path, "ewma", window)

    assert isinstance(forecast, Forecast)
    expected = window.candles.close[-1] * np.exp(
        newest_forecast("ewma", window.candles, HOUR_MS, range(1, HORIZONS + 1))
    )
    assert np.array([item.quantiles.prices() for item in forecast.horizons]) == pytest.approx(expected, rel=1e-9)
    assert (forecast.model.name, forecast.model.skill_vs_naive) == ("ewma", None)
    assert {item.skill_vs_naive for item in forecast.horizons} == {None}


def test_the_bands_of_ewma_widen_after_a_wild_day_and_those_of_naive_hardly_do(tmp_path: Path) -> None:
    calm = _window(1000)
    close = calm.candles.close.copy()
    close[-12:] *= np.exp(np.cumsum(0.05 * np.tile([1.0, -1.0], 6)))
    wild = Window(replace(calm.candles, close=close), calm.reference, Interval.H1)

    def widening(choice: str) -> float:
        before, after = (_compared(tmp_path, choice, window) for window in (calm, wild))
        assert isinstance(before, Forecast)
        assert isinstance(after, Forecast)
        widths = [np.log(each.quantiles.q90 / each.quantiles.q10) for each in (before, after)]
        return float(widths[1] / widths[0])

    assert widening("ewma") > 2
    assert widening("naive") < 1.2


@pytest.mark.parametrize("choice", ["naive", "ewma"])
def test_a_baseline_of_too_few_candles_does_not_exist(tmp_path: Path, choice: str) -> None:
    answer = _compared(tmp_path, choice, _window(40))

    assert isinstance(answer, ReplicaError)
    assert (answer.kind, answer.field) == ("no-model", "model")
    assert answer.detail.startswith(f"no {choice} forecast: ")
