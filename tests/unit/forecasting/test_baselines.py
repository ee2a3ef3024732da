"""The baselines are correct: a wrong one would make the model look better than it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.forecasting import baselines
from make_us_rich.forecasting.baselines import PAST_CANDLES
from make_us_rich.forecasting.evaluation import coverage, diebold_mariano, pinball

RANDOM = np.random.default_rng(8)


def garch_returns(count: int, alpha: float = 0.12, beta: float = 0.85) -> tuple[np.ndarray, np.ndarray]:
    """Return (returns, true deviations) of a GARCH(1,1) with normal shocks of hourly size."""
    returns, variance = np.empty(count), np.empty(count)
    variance[0] = 1e-4
    for i in range(count):
        returns[i] = np.sqrt(variance[i]) * RANDOM.standard_normal()
        if i + 1 < count:
            variance[i + 1] = 3e-6 + alpha * returns[i] ** 2 + beta * variance[i]
    return returns, np.sqrt(variance)


def test_each_uses_only_earlier_returns() -> None:
    returns, _ = garch_returns(2500)
    past, coming = returns[:2000], returns[2000:]
    changed = coming.copy()
    changed[300:] *= 5
    for forecast in (baselines.naive, baselines.rolling, baselines.ewma, baselines.garch_t):
        before, after = forecast(past, coming, (1, 4, 24)), forecast(past, changed, (1, 4, 24))
        assert before.shape == (500, 3, 7)
        assert np.array_equal(before[:301], after[:301]), forecast.__name__
        assert (np.diff(before, axis=2) >= 0).all()


def test_naive_has_the_quantiles_of_the_past() -> None:
    past = RANDOM.standard_normal(1000)
    forecast = baselines.naive(past, np.zeros(3), (1, 2))
    assert forecast[2, 0] == pytest.approx(np.quantile(past, QUANTILE_LEVELS))
    assert forecast[2, 1] == pytest.approx(np.quantile(past[1:] + past[:-1], QUANTILE_LEVELS))


def test_garch_recovers_the_volatility_of_a_garch_process() -> None:
    returns, deviation = garch_returns(6000)
    quantiles = baselines.garch_t(returns[:5000], returns[5000:])[:, 0]
    width = quantiles[:, -1] - quantiles[:, 0]
    assert np.corrcoef(width, deviation[5000:])[0, 1] > 0.95
    assert coverage(quantiles, returns[5000:], 0.8) == pytest.approx(0.8, abs=0.04)
    naive = baselines.naive(returns[:5000], returns[5000:])[:, 0]
    assert pinball(quantiles, returns[5000:]).mean() < pinball(naive, returns[5000:]).mean()


def test_garch_far_ahead_is_what_its_own_market_does() -> None:
    """The quantiles 24 candles ahead, and not only the variance, are those of simulated futures of the true process."""
    returns, deviation = garch_returns(PAST_CANDLES + 1)
    past, now = returns[:PAST_CANDLES], deviation[PAST_CANDLES]
    variance, total = np.full(40_000, now**2), np.zeros(40_000)
    for _ in range(24):
        step = np.sqrt(variance) * RANDOM.standard_normal(len(total))
        total += step
        variance = 3e-6 + 0.12 * step**2 + 0.85 * variance
    forecast = baselines.garch_t(past, np.zeros(1), (24,))[0, 0]
    assert forecast == pytest.approx(np.quantile(total, QUANTILE_LEVELS), abs=0.2 * total.std())
    assert np.array_equal(forecast, baselines.garch_t(past, np.zeros(1), (1, 24))[0, 1]), "the seed is fixed"


@pytest.mark.parametrize("baseline", [baselines.rolling, baselines.ewma, baselines.garch_t])
def test_bands_of_later_horizons_cover_what_they_claim(baseline: Callable[..., NDArray[np.float64]]) -> None:
    returns, _ = garch_returns(9000)
    quantiles = baseline(returns[:6000], returns[6000:], (4, 24))
    for index, horizon in enumerate((4, 24)):
        totals = np.convolve(returns[6000:], np.ones(horizon), mode="valid")
        assert coverage(quantiles[: len(totals), index], totals, 0.8) == pytest.approx(0.8, abs=0.06)


def test_linear_quantiles_equal_those_of_scikit_learn() -> None:
    from sklearn.linear_model import QuantileRegressor  # takes seconds of every process that collects the tests

    regressors = RANDOM.lognormal(0, 0.5, (700, 3)) / 100
    returns = regressors[:, 0] * RANDOM.standard_t(5, 700) + 0.1 * regressors[:, 1]
    ours = baselines.linear_quantiles(regressors, returns[:600], np.full(700, returns[:600].std()))
    theirs = np.stack(
        [
            QuantileRegressor(quantile=level, alpha=0, solver="highs")
            .fit(100 * regressors[:600], 100 * returns[:600])
            .predict(100 * regressors[600:])
            for level in QUANTILE_LEVELS
        ],
        axis=1,
    )
    loss, reference = (pinball(item, returns[600:]).mean() for item in (ours, np.sort(theirs, axis=1) / 100))
    assert loss == pytest.approx(reference, rel=5e-3)


def test_pinball_by_hand() -> None:
    loss = pinball(np.zeros((1, 7)), np.array([1.0]))
    assert loss[0] == pytest.approx(np.mean(QUANTILE_LEVELS))


def test_diebold_mariano_has_the_size_it_claims() -> None:
    """Equal forecasts are called different at 1.96 in about 5 % of cases, also with correlated losses."""
    random = np.random.default_rng(9)
    rejected = 0
    for _ in range(400):
        noise = random.standard_normal(601)
        difference = noise[1:] + 0.3 * noise[:-1]
        rejected += abs(diebold_mariano(difference, np.zeros(600))) > 1.96
    assert 0.02 < rejected / 400 < 0.10
    assert diebold_mariano(np.zeros(100), random.uniform(0.9, 1.1, 100)) > 10


def test_more_lags_allow_for_overlapping_targets() -> None:
    """Losses of forecasts 24 candles ahead share 23 of them: the mean of 840 is known as that of 35 would be."""
    random = np.random.default_rng(1)
    rejected = np.zeros(2)
    for _ in range(400):
        steps = random.normal(0, 1, 840 + 23)
        difference = np.convolve(steps, np.ones(24), mode="valid")
        for column, horizon in enumerate((1, 24)):
            rejected[column] += abs(diebold_mariano(difference, np.zeros(840), horizon=horizon)) > 1.96
    few, enough = rejected / 400
    assert few > 0.3
    assert enough < 0.18
