"""What counts as drift of served forecasts, and what as noise, at one horizon and over many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.database.outcomes import ScoredForecasts
from make_us_rich.documents import HORIZON_GRID, QUANTILE_LEVELS, Score
from make_us_rich.forecasting.baselines import PAST_CANDLES, naive
from make_us_rich.forecasting.evaluation import diebold_mariano, pinball
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_klines
from make_us_rich.record.drift import MIN_SCORED, score_served
from make_us_rich.record.figures import inside_80
from make_us_rich.record.shift import population_shift
from tests.support.recorded_data import recorded

N = 168
BEFORE = 1440
_NORMAL = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645])  # QUANTILE_LEVELS of a standard normal
assert len(_NORMAL) == len(QUANTILE_LEVELS)

Array = NDArray[np.float64]


def _served(
    logs: Array, volatility: Array, n: int = N, *, before: int = BEFORE, bias: float = 0.0
) -> list[ScoredForecasts]:
    """Return forecasts of log-normal closes, made at the last n of `logs`, which are the closes after `before` others.

    volatility: [n], of the return over one candle as each forecast knows it; it grows with the root of the horizon.
    Naive learns each day from the candles before it, as in live_baselines.py.
    """
    returns = np.diff(logs)
    each_day = [
        naive(returns[max(0, before + day - PAST_CANDLES) : before + day], np.zeros(1), HORIZON_GRID)[0]
        for day in range(0, n, 24)
    ]
    naive_of_day = np.array(each_day)  # [days, G, 7]
    week = []
    for column, horizon in enumerate(HORIZON_GRID):
        actual = (logs[before + horizon :] - logs[before : len(logs) - horizon])[:n]
        made = np.arange(len(actual))
        quantiles = volatility[: len(actual), None] * np.sqrt(horizon) * _NORMAL + bias
        losses = np.full((len(actual), 3), np.nan)
        losses[:, 0] = pinball(naive_of_day[made // 24, column], actual)
        ones = np.ones(len(actual))
        week.append(
            ScoredForecasts(
                Interval.H1,
                horizon,
                made * HOUR_MS,
                [datetime.fromtimestamp(hour * 3600 + 20, UTC) for hour in made.tolist()],
                ones.astype(np.int64),
                ones < 0,
                ones,
                np.exp(actual),
                np.exp(quantiles),
                losses,
            )
        )
    return week


def _market(seed: int, n: int = N) -> tuple[Array, Array]:
    """Return (log closes, volatility of the last n hours) of a market whose volatility changes slowly."""
    draw = np.random.default_rng(seed)
    steps = np.zeros(BEFORE + n)
    for hour in range(1, len(steps)):
        steps[hour] = 0.99 * steps[hour - 1] + draw.normal(0, 0.07)
    volatility = 0.01 * np.exp(steps)
    return np.append(0.0, np.cumsum(volatility * draw.normal(size=len(steps)))), volatility[BEFORE:]


def _empty(horizon: int, *, skipped: int = 0) -> ScoredForecasts:
    none, integers = np.empty(0), np.empty(0, np.int64)
    columns = (integers, [], integers, none > 0, none, none, np.empty((0, 7)), np.empty((0, 3)))
    return ScoredForecasts(Interval.H1, horizon, *columns, skipped=skipped)


def _at_one_horizon(week: list[ScoredForecasts]) -> list[ScoredForecasts]:
    """Return the same forecasts by a model of the next close alone."""
    return [week[0], *map(_empty, HORIZON_GRID[1:])]


def _score(served: Sequence[ScoredForecasts], shift: dict[str, float] | None = None) -> Score:
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
    for found, item in zip(served, score.horizons, strict=True):
        actual, quantiles = np.log(found.close), np.log(found.quantiles)
        ours, theirs = pinball(quantiles, actual), found.baseline_losses[:, 0]
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
    score = _score([*served[:7], replace(served[7], skipped=3), _empty(24, skipped=145)])

    assert [item.skipped for item in score.horizons] == [0] * 7 + [3, 145]
    last = score.horizons[-1]
    assert (last.n, last.skill_vs_naive, last.coverage_80, last.t_vs_naive) == (0, None, None, None)
    assert score.skill_vs_naive == pytest.approx(np.mean([item.skill_vs_naive for item in score.horizons[:-1]]))


def test_without_a_known_close_or_naive_loss_there_is_no_score() -> None:
    served = _served(*_market(5))
    young = replace(served[0], baseline_losses=np.full((N, 3), np.nan))
    for next_close in (_empty(1), _empty(1, skipped=3), young):
        assert score_served([next_close, *served[1:]], {}) is None


def test_forecasts_without_a_naive_loss_are_left_out() -> None:
    """The first days of a young pair, for which naive had too few candles."""
    served = _served(*_market(5))
    served[0].baseline_losses[:48] = np.nan
    score = _score(served)

    assert [item.n for item in score.horizons[:2]] == [N - 48, N - 1]
    assert score.horizons[0].coverage_80 == np.mean(inside_80(served[0])[48:])


def test_a_band_that_is_too_narrow_is_drift() -> None:
    logs, volatility = _market(1)
    score = _score(_served(logs, 0.5 * volatility))

    assert score.drifted
    assert "the 80 % band covered" in score.reason


def test_a_band_that_is_too_narrow_far_ahead_alone_is_drift() -> None:
    """The limit allows for overlapping forecasts: 145 forecasts 24 candles ahead are worth 6."""
    served = _served(*_market(1))
    far = served[-1]
    score = _score([*served[:-1], replace(far, quantiles=far.quantiles**0.02)])

    assert score.drifted
    assert "of 145 closes 24 candles ahead" in score.reason
    half_as_wide = replace(far, quantiles=far.quantiles**0.5)  # 6 forecasts cannot show that it is too narrow
    assert not _score([*served[:-1], half_as_wide]).drifted


def test_biased_forecasts_are_worse_than_naive() -> None:
    score = _score(_served(*_market(2), bias=0.1))

    assert score.drifted
    assert "worse than naive in the mean over the horizons" in score.reason


def test_too_few_forecasts_are_not_checked_for_drift() -> None:
    score = _score(_served(*_market(3, MIN_SCORED - 1), MIN_SCORED - 1, bias=0.1))

    assert not score.drifted
    assert score.reason == "too few forecasts to score"


def test_a_changed_market_explains_drift_but_is_not_drift_itself() -> None:
    assert not _score(_served(*_market(4)), {"range": 3.0}).drifted
    assert "range 3.00" in _score(_served(*_market(4), bias=0.1), {"range": 3.0}).reason


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
        for begin in range(1440, len(logs) - N - 1, N):
            volatility = 0.95 * np.sqrt(variance[begin : begin + N])
            before = min(begin, PAST_CANDLES)
            week = _served(logs[begin - before : begin + N + 1], volatility, before=before)
            drifted.append(_score(week).drifted)
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
