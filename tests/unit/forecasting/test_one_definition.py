"""Training, backtest, track record and replicas compare with the same baselines, fitted on the same candles."""

from __future__ import annotations

import numpy as np
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.documents import HORIZON_GRID
from make_us_rich.forecasting.backtest import _compared_forecasts
from make_us_rich.forecasting.baselines import PAST_CANDLES, baseline_forecasts
from make_us_rich.forecasting.dataset import PreparedPair, prepare
from make_us_rich.forecasting.evaluation import holdout_forecasts, pinball
from make_us_rich.forecasting.live_baselines import BASELINES, baseline_losses, newest_forecast
from make_us_rich.forecasting.recipe import _naive_forecasts
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles
from tests.unit.forecasting.random_candles import SMALL, START_MS, random_candles, without

LENGTH = PAST_CANDLES + 500
CANDLES = random_candles(21, LENGTH)
ROWS = range(LENGTH - 168, LENGTH - 24, 31)
GRID = np.array(HORIZON_GRID)


@pytest.fixture(scope="module")
def prepared() -> PreparedPair:
    bitcoin = random_candles(22, LENGTH, price=30_000.0)
    as_of_ms = int(CANDLES.open_time_ms[-1]) + HOUR_MS
    return prepare(CANDLES, bitcoin, TrainingTask(as_of_ms, SMALL))


def _newest(name: str, candles: Candles = CANDLES) -> np.ndarray:
    """Return what a replica would have served as of each of ROWS, [n, G, 7]."""
    times = CANDLES.open_time_ms[list(ROWS)]
    served = [candles[candles.open_time_ms < time_ms] for time_ms in times]
    return np.array([newest_forecast(name, each, HOUR_MS, HORIZON_GRID) for each in served])


@pytest.mark.parametrize("name", BASELINES)
def test_backtest_replica_and_record_agree(prepared: PreparedPair, name: str) -> None:
    times, served = CANDLES.open_time_ms[list(ROWS)], _newest(name)
    compared = _compared_forecasts(prepared, HORIZON_GRID, Interval.H1, [name])[name]
    chosen = np.searchsorted(prepared.split.holdout.target_open_ms, times)
    assert compared[chosen] == pytest.approx(served, rel=1e-9)

    actual = prepared.split.holdout.target[chosen][:, GRID - 1].double().numpy()
    losses = baseline_losses(CANDLES, HOUR_MS, times, actual)[:, :, BASELINES.index(name)]
    assert losses == pytest.approx(pinball(served, actual), rel=1e-9)


def test_a_model_is_judged_by_the_same_naive_forecast(prepared: PreparedPair) -> None:
    holdout = prepared.split.holdout
    blank = np.zeros((*holdout.target.shape, 7))
    judged = _naive_forecasts(
        prepared, holdout_forecasts(holdout.target_open_ms, blank, holdout.target.numpy()), Interval.H1
    )
    chosen = np.searchsorted(holdout.target_open_ms, CANDLES.open_time_ms[list(ROWS)])
    assert judged.quantiles[chosen][:, GRID - 1] == pytest.approx(_newest("naive"), rel=1e-9)


@pytest.mark.parametrize("name", ["naive", "rolling", "ewma", "garch_t"])
def test_later_candles_change_no_bit(name: str) -> None:
    times = CANDLES.open_time_ms[list(ROWS)]
    close = CANDLES.close.copy()
    close[ROWS[2] :] *= np.linspace(1.0, 3.0, LENGTH - ROWS[2])  # from the third forecast on
    changed = Candles(CANDLES.open_time_ms, close, close, close, close, CANDLES.volume)
    before, after = (baseline_forecasts(each, HOUR_MS, times, (1, 24), [name])[name] for each in (CANDLES, changed))
    assert np.array_equal(before[:3], after[:3])
    assert not np.array_equal(before[3:], after[3:])


def test_only_the_named_number_of_candles_before_the_day_counts() -> None:
    time_ms = CANDLES.open_time_ms[list(ROWS)[:1]]
    first_ms = int(time_ms[0]) // (24 * HOUR_MS) * 24 * HOUR_MS - (PAST_CANDLES + 1) * HOUR_MS
    enough = CANDLES[CANDLES.open_time_ms >= first_ms]
    for name in BASELINES:
        whole, cut, fewer = (
            baseline_forecasts(each, HOUR_MS, time_ms, (1, 24), [name])[name] for each in (CANDLES, enough, enough[1:])
        )
        assert whole == pytest.approx(cut, rel=1e-12)
        assert not np.array_equal(whole, fewer)


def test_a_gap_is_flat_and_forecasts_after_the_last_candle_are_unknown() -> None:
    times = np.array([START_MS + LENGTH * HOUR_MS, START_MS + (LENGTH + 1) * HOUR_MS]) // HOUR_MS * HOUR_MS + HOUR_MS
    gap = without(CANDLES, LENGTH - 60, 30)
    found = baseline_forecasts(gap, HOUR_MS, times - HOUR_MS, (1,), BASELINES)
    for name in BASELINES:
        assert np.isfinite(found[name][0]).all()
        assert np.isnan(found[name][1]).all()
