"""Two models on the same held-out candles, and what promotion decides of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from make_us_rich.core.errors import BadModel
from make_us_rich.documents import HORIZON_GRID, HORIZONS
from make_us_rich.forecasting.evaluation import (
    HoldoutForecasts,
    compare,
    diebold_mariano,
    holdout_forecasts,
    metrics,
    pinball,
)
from make_us_rich.forecasting.recipe import FittedModel
from make_us_rich.registry.client import ModelVersion
from make_us_rich.registry.promotion import PromotionDecision, decide
from ray_jobs.job import comparison

N = 672
TIMES = np.arange(N, dtype=np.int64)
SPREAD = np.array([-0.4, -0.3, -0.1, 0.0, 0.1, 0.3, 0.4])
_NORMAL = np.array([-1.645, -1.2816, -0.674, 0.0, 0.674, 1.2816, 1.645])


def _market() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (volatility of each hour [N], returns 1 to 24 hours ahead [N, 24]); those that are not closed are NaN."""
    draw = np.random.default_rng(11)
    volatility = 0.01 * np.exp(draw.normal(0, 0.6, N // 24).repeat(24))
    walk = np.append(0.0, np.cumsum(volatility * draw.normal(size=N)))
    target = np.full((N, HORIZONS), np.nan)
    for horizon in range(1, HORIZONS + 1):
        target[: N - horizon + 1, horizon - 1] = walk[horizon:] - walk[: N - horizon + 1]
    return volatility, target


VOLATILITY, TARGET = _market()


def _model(errors: Sequence[float], horizons: int = HORIZONS) -> HoldoutForecasts:
    """Return forecasts that know the volatility but for a factor at each horizon; the last of `errors` is repeated."""
    factors = np.array([errors[min(column, len(errors) - 1)] for column in range(horizons)])
    widths = VOLATILITY[:, None] * np.sqrt(np.arange(1, horizons + 1)) * factors
    return holdout_forecasts(TIMES, widths[:, :, None] * _NORMAL, TARGET)


def _naive(horizons: int = HORIZONS) -> HoldoutForecasts:
    levels = 0.012 * np.sqrt(np.arange(1, horizons + 1))[:, None] * _NORMAL
    return holdout_forecasts(TIMES, np.tile(levels, (N, 1, 1)), TARGET)


def _decide(challenger: HoldoutForecasts, champion: HoldoutForecasts, *, expired: bool = False) -> PromotionDecision:
    """Decide as the job and the DAG do."""
    naive = _naive(challenger.horizons)
    fitted = FittedModel(b"", b"", {}, metrics(challenger, naive), [], challenger, naive)
    version = ModelVersion("btc_usdt_1h", 7, "run", created_ms=0, tags={})
    return decide(comparison(fitted, version, compare(challenger, champion, naive)), champion_expired=expired)


def test_a_comparison_is_made_on_common_candles_only() -> None:
    ours = holdout_forecasts(np.array([1, 2, 3]), np.tile(SPREAD, (3, 1, 1)), np.array([[0.0], [0.0], [9.0]]))
    theirs = holdout_forecasts(np.array([0, 1, 2]), np.tile(SPREAD + 1, (3, 1, 1)), np.zeros((3, 1)))
    found = compare(ours, theirs, ours)
    assert found.challenger_pinball == pytest.approx(pinball(np.array([SPREAD]), np.zeros(1))[0])
    assert found.champion_pinball == pytest.approx(pinball(np.array([SPREAD + 1]), np.zeros(1))[0])
    assert found.t == 0.0  # the difference never changes: there is nothing to compare it with
    assert found.mean is None


def test_models_without_a_common_candle_are_not_compared() -> None:
    early, late = (holdout_forecasts(np.array([at]), np.array([[SPREAD]]), np.zeros((1, 1))) for at in (1, 2))
    with pytest.raises(BadModel, match="no held-out candle in common"):
        compare(early, late, early)


def test_the_mean_divides_each_horizons_loss_by_naives_and_weighs_all_alike() -> None:
    challenger, champion, naive = _model([1.0]), _model([1.4]), _naive()
    found = compare(challenger, champion, naive)

    ours, theirs = [], []
    for horizon in HORIZON_GRID:
        scale = naive.at(horizon).losses.mean()
        ours.append(challenger.at(horizon).losses.mean() / scale)
        theirs.append(champion.at(horizon).losses.mean() / scale)
    assert found.mean is not None
    assert (found.mean.horizons, found.champion_horizons) == (len(HORIZON_GRID), HORIZONS)
    assert found.mean.challenger == pytest.approx(np.mean(ours))
    assert found.mean.champion == pytest.approx(np.mean(theirs))
    assert found.mean.t > 2
    assert found.t == pytest.approx(diebold_mariano(challenger.at(1).losses, champion.at(1).losses))


def test_the_error_of_the_mean_allows_for_the_longest_horizon() -> None:
    """Rows whose closes are all known are one series, whose t has two lags for each of 24 candles."""
    challenger, champion, naive = _model([1.0]), _model([1.1]), _naive()
    rows = slice(0, N - HORIZONS + 1)
    known = [
        HoldoutForecasts(TIMES[rows], item.quantiles[rows], item.target[rows], item.losses[rows])
        for item in (challenger, champion, naive)
    ]
    found = compare(*known)
    columns = np.array(HORIZON_GRID) - 1
    ours, theirs = (item.losses[:, columns] / known[2].losses[:, columns].mean(axis=0) for item in known[:2])
    assert found.mean is not None
    assert found.mean.t == pytest.approx(diebold_mariano(ours.mean(axis=1), theirs.mean(axis=1), horizon=HORIZONS))


def test_better_far_ahead_and_as_good_at_the_next_close_is_promoted() -> None:
    decision = _decide(_model([1.0, 1.0]), _model([1.0, 1.5]))
    assert decision.promoted
    assert "in the mean over 9 horizons" in decision.reason
    assert "+0.00% at the next close" in decision.reason
    assert "version 7" in decision.reason


def test_better_far_ahead_and_worse_at_the_next_close_beyond_noise_is_refused() -> None:
    decision = _decide(_model([2.0, 1.0]), _model([1.0, 2.0]))
    assert not decision.promoted
    assert decision.reason.startswith("worse at the next close beyond noise: +")
    assert _decide(_model([2.0, 1.0]), _model([1.0, 2.0]), expired=True).promoted


def test_better_at_the_next_close_and_worse_far_ahead_is_refused() -> None:
    decision = _decide(_model([1.0, 1.5]), _model([1.5, 1.0]))
    assert not decision.promoted
    assert decision.reason.startswith("not better in the mean over the horizons: -")


def test_a_little_worse_at_the_next_close_is_noise() -> None:
    decision = _decide(_model([1.03, 1.0]), _model([1.0, 1.3]))
    assert "-0." in decision.reason.split(";")[1]
    assert decision.promoted


def test_worse_than_naive_far_ahead_is_refused_however_good_the_next_close_is() -> None:
    decision = _decide(_model([1.0, 6.0]), _model([1.0, 7.0]))
    assert not decision.promoted
    assert decision.reason.startswith("worse than the naive forecast beyond noise: skill -")


def test_a_champion_of_one_horizon_gives_way_unless_the_challenger_is_worse_there() -> None:
    promoted = _decide(_model([1.03]), _model([1.0], horizons=1))
    assert promoted.promoted
    assert promoted.reason.startswith("it forecasts 24 horizons, the champion 1; -")
    refused = _decide(_model([2.0, 1.0]), _model([1.0], horizons=1))
    assert not refused.promoted
    assert refused.reason.startswith("worse at the next close beyond noise: ")


def test_two_models_of_one_horizon_are_compared_there() -> None:
    better, worse = _model([1.0], horizons=1), _model([1.5], horizons=1)
    assert _decide(better, worse).promoted
    assert not _decide(worse, better).promoted


def test_fewer_horizons_do_not_replace_more() -> None:
    decision = _decide(_model([1.0], horizons=1), _model([1.5]))
    assert not decision.promoted
    assert "fewer horizons, 1 instead of 24" in decision.reason
