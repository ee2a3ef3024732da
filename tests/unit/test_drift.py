"""What counts as drift of served forecasts, and what as noise, at one horizon and over many."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from make_us_rich.core.interval import Interval
from make_us_rich.documents import HORIZON_GRID, QUANTILE_LEVELS, Score
from make_us_rich.forecasting.evaluation import diebold_mariano, pinball
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_klines
from make_us_rich.record.drift import MIN_SCORED, ServedForecasts, population_shift, score_served
from tests.support.recorded_data import recorded

N = 168
BEFORE = 1440
_ROOTS = np.sqrt(HORIZON_GRID)
_NORMAL = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645])  # QUANTILE_LEVELS of a standard normal
assert len(_NORMAL) == len(QUANTILE_LEVELS)


def _served(logs: NDArray[np.float64], volatility: NDArray[np.float64], n: int = N) -> ServedForecasts:
    """Return forecasts of log-normal closes, made at the last n of `logs`, which are the closes after BEFORE others.

    volatility: [n], of the return over one candle as each forecast knows it; it grows with the root of the horizon.
    """
    actual = np.full((n, len(HORIZON_GRID)), np.nan)
    for column, horizon in enumerate(HORIZON_GRID):
        known = logs[BEFORE + horizon :] - logs[BEFORE : len(logs) - horizon]
        actual[: len(known), column] = known
    past = [logs[horizon : BEFORE + 1] - logs[: BEFORE + 1 - horizon] for horizon in HORIZON_GRID]
    quantiles = volatility[:, None, None] * _ROOTS[:, None] * _NORMAL
    return ServedForecasts(quantiles, actual, np.zeros(len(HORIZON_GRID), np.int64), past)


def _market(seed: int, n: int = N) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (log closes, volatility of the last n hours) of a market whose volatility changes slowly."""
    draw = np.random.default_rng(seed)
    steps = np.zeros(BEFORE + n)
    for hour in range(1, len(steps)):
        steps[hour] = 0.99 * steps[hour - 1] + draw.normal(0, 0.07)
    volatility = 0.01 * np.exp(steps)
    return np.append(0.0, np.cumsum(volatility * draw.normal(size=len(steps)))), volatility[BEFORE:]


def _at_one_horizon(served: ServedForecasts) -> ServedForecasts:
    """Return the same forecasts as rows of an older version have them: of the next close alone."""
    quantiles, actual = served.quantiles.copy(), served.actual.copy()
    quantiles[:, 1:], actual[:, 1:] = np.nan, np.nan
    return ServedForecasts(quantiles, actual, served.skipped, served.past)


def _score(served: ServedForecasts, shift: dict[str, float] | None = None) -> Score:
    score = score_served(served, shift or {})
    assert score is not None
    return score


@pytest.mark.parametrize("seed", range(20))
def test_correct_forecasts_do_not_drift(seed: int) -> None:
    served = _served(*_market(seed))

    for score in (_score(served), _score(_at_one_horizon(served))):
        assert not score.drifted, score.reason
        assert score.reason == "no drift"


def test_each_horizon_is_scored_and_the_skill_is_their_mean() -> None:
    served = _served(*_market(5))
    score = _score(served)

    assert tuple(item.horizon for item in score.horizons) == HORIZON_GRID
    assert [item.n for item in score.horizons] == [N - horizon + 1 for horizon in HORIZON_GRID]
    for column, item in enumerate(score.horizons):
        quantiles, actual = served.quantiles[: item.n, column], served.actual[: item.n, column]
        naive = np.tile(np.quantile(served.past[column], QUANTILE_LEVELS), (item.n, 1))
        ours, theirs = pinball(quantiles, actual), pinball(naive, actual)
        assert item.skill_vs_naive == pytest.approx(1 - ours.mean() / theirs.mean())
        assert item.t_vs_naive == pytest.approx(diebold_mariano(ours, theirs, horizon=item.horizon))
        assert item.coverage_80 == np.mean((actual >= quantiles[:, 1]) & (actual <= quantiles[:, 5]))
    assert score.n == N
    assert score.skill_vs_naive == pytest.approx(np.mean([item.skill_vs_naive for item in score.horizons]))
    assert score.coverage_80 == pytest.approx(np.mean([item.coverage_80 for item in score.horizons]))


def test_forecasts_of_the_next_close_alone_are_scored_at_that_horizon() -> None:
    served = _at_one_horizon(_served(*_market(5)))
    score = _score(served)

    (only,) = score.horizons
    assert (only.horizon, only.n) == (1, N)
    assert (score.skill_vs_naive, score.t_vs_naive, score.coverage_80) == (
        pytest.approx(only.skill_vs_naive),
        pytest.approx(only.t_vs_naive),
        only.coverage_80,
    )


def test_a_horizon_with_few_forecasts_is_shown_and_not_counted() -> None:
    """Of 30 forecasts 7 have a close 24 candles ahead, all of nearly the same hours."""
    logs, volatility = _market(6, 30)
    score = _score(_served(logs, volatility, 30))

    assert score.horizons[-1].n == 7
    assert score.skill_vs_naive == pytest.approx(np.mean([item.skill_vs_naive for item in score.horizons[:4]]))


def test_skipped_forecasts_are_counted_even_if_none_is_left() -> None:
    served = _served(*_market(5))
    served.actual[:, -1] = np.nan
    served.skipped[-2:] = 3, 145
    score = _score(served)

    assert [item.skipped for item in score.horizons] == [0] * 7 + [3, 145]
    last = score.horizons[-1]
    assert (last.n, last.skill_vs_naive, last.coverage_80, last.t_vs_naive) == (0, None, None, None)
    assert score.skill_vs_naive == pytest.approx(np.mean([item.skill_vs_naive for item in score.horizons[:-1]]))


def test_without_a_known_close_there_is_no_score() -> None:
    served = _served(*_market(5))
    served.actual[:] = np.nan
    assert score_served(served, {}) is None


def test_a_band_that_is_too_narrow_is_drift() -> None:
    logs, volatility = _market(1)
    score = _score(_served(logs, 0.5 * volatility))

    assert score.drifted
    assert "the 80 % band covered" in score.reason


def test_a_band_that_is_too_narrow_far_ahead_alone_is_drift() -> None:
    """The limit allows for overlapping forecasts: 145 forecasts 24 candles ahead are worth 6."""
    served = _served(*_market(1))
    served.quantiles[:, -1] *= 0.02
    score = _score(served)

    assert score.drifted
    assert "of 145 closes 24 candles ahead" in score.reason
    served.quantiles[:, -1] *= 25  # half as wide as it should be: 6 forecasts cannot show that
    assert not _score(served).drifted


def test_biased_forecasts_are_worse_than_naive() -> None:
    served = _served(*_market(2))
    score = _score(ServedForecasts(served.quantiles + 0.1, served.actual, served.skipped, served.past))

    assert score.drifted
    assert "worse than naive in the mean over the horizons" in score.reason


def test_too_few_forecasts_are_not_checked_for_drift() -> None:
    served = _served(*_market(3, MIN_SCORED - 1), MIN_SCORED - 1)
    score = _score(ServedForecasts(served.quantiles + 0.1, served.actual, served.skipped, served.past))

    assert not score.drifted
    assert score.reason == "too few forecasts to score"


def test_a_changed_market_explains_drift_but_is_not_drift_itself() -> None:
    served = _served(*_market(4))
    biased = ServedForecasts(served.quantiles + 0.1, served.actual, served.skipped, served.past)

    assert not _score(served, {"range": 3.0}).drifted
    assert "range 3.00" in _score(biased, {"range": 3.0}).reason


@pytest.mark.recorded("klines-1h")
def test_false_alarms_are_rare_on_recorded_weeks() -> None:
    """EWMA forecasts, which are better than naive at every horizon, of all weeks of five recorded pairs."""
    drifted = []
    for symbol in ("BTCUSDT", "ETHUSDT", "ADAUSDT", "DOGEUSDT", "XRPUSDT"):
        candles = read_klines(recorded("klines-1h") / f"{symbol}.parquet", Interval.H1)
        logs = np.log(candles.close)
        variance = np.zeros(len(logs))
        for hour in range(1, len(logs)):
            variance[hour] = 0.97 * variance[hour - 1] + 0.03 * (logs[hour] - logs[hour - 1]) ** 2
        for begin in range(BEFORE, len(logs) - N - 1, N):
            volatility = 0.95 * np.sqrt(variance[begin : begin + N])
            drifted.append(_score(_served(logs[begin - BEFORE : begin + N + 1], volatility)).drifted)
    print(f"{np.mean(drifted):.2%} of {len(drifted)} weeks")
    assert len(drifted) > 500
    assert np.mean(drifted) < 0.01


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
