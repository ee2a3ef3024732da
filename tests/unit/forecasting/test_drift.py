"""What counts as drift of served forecasts, and what as noise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.forecasting.evaluation import MIN_SCORED, population_shift, score_served
from make_us_rich.market.candles import Candles

N = 168
_NORMAL = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645])  # QUANTILE_LEVELS of a standard normal
assert len(_NORMAL) == len(QUANTILE_LEVELS)


def _returns(seed: int, n: int = N) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return (volatility of each hour, actual returns, past returns) with a volatility that the forecaster knows."""
    draw = np.random.default_rng(seed)
    volatility = 0.01 * np.exp(draw.normal(0, 0.5, n))
    past = 0.01 * np.exp(draw.normal(0, 0.5, 1440)) * draw.normal(size=1440)
    return volatility, volatility * draw.normal(size=n), past


@pytest.mark.parametrize("seed", range(20))
def test_correct_forecasts_do_not_drift(seed: int) -> None:
    volatility, actual, past = _returns(seed)

    score = score_served(volatility[:, None] * _NORMAL, actual, past, {})

    assert not score.drifted, score.reason
    assert score.reason == "no drift"
    assert score.skill_vs_naive > 0


def test_a_band_that_is_too_narrow_is_drift() -> None:
    volatility, actual, past = _returns(1)

    score = score_served(0.5 * volatility[:, None] * _NORMAL, actual, past, {})

    assert score.drifted
    assert "the 80 % band covered" in score.reason


def test_biased_forecasts_are_worse_than_naive() -> None:
    volatility, actual, past = _returns(2)

    score = score_served(volatility[:, None] * _NORMAL + 0.03, actual, past, {})

    assert score.drifted
    assert "worse than naive" in score.reason


def test_too_few_forecasts_are_not_checked_for_drift() -> None:
    volatility, actual, past = _returns(3, MIN_SCORED - 1)

    score = score_served(volatility[:, None] * _NORMAL + 0.03, actual, past, {})

    assert not score.drifted
    assert score.reason == "too few forecasts to score"


def test_a_changed_market_explains_drift_but_is_not_drift_itself() -> None:
    volatility, actual, past = _returns(4)

    assert not score_served(volatility[:, None] * _NORMAL, actual, past, {"range": 3.0}).drifted
    assert "range 3.00" in score_served(volatility[:, None] * _NORMAL + 0.03, actual, past, {"range": 3.0}).reason


def test_the_shift_is_small_for_the_same_market_and_large_for_another() -> None:
    same = population_shift(_candles(1440, 0.01, 1), _candles(N, 0.01, 2))
    wilder = population_shift(_candles(1440, 0.01, 1), _candles(N, 0.03, 2))

    assert max(same.values()) < 0.25
    assert wilder["range"] > 1


def _candles(n: int, volatility: float, seed: int) -> Candles:
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(volatility * draw.normal(size=n)))
    wick = np.abs(volatility * draw.normal(size=n)) + 1e-4
    times = np.arange(n, dtype=np.int64) * 3_600_000
    return Candles(times, close, close * (1 + wick), close * (1 - wick), close, np.exp(draw.normal(size=n)))
