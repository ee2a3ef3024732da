"""Metrics of forecasts, compared with values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from make_us_rich.documents import HORIZON_GRID
from make_us_rich.forecasting.evaluation import (
    MEAN_SKILL,
    MEAN_T,
    coverage,
    diebold_mariano,
    holdout_forecasts,
    metrics,
    pinball,
    random_walk_inside,
    t_of_mean_gain,
)

# the quantiles' distances from the median, the same for every candle
SPREAD = np.array([-0.4, -0.3, -0.1, 0.0, 0.1, 0.3, 0.4])
TARGET = np.array([0.05, -0.2, 0.35, -0.5])
MEDIANS = np.array([0.1, -0.1, -0.1, 0.0])
FORECAST = MEDIANS[:, None] + SPREAD


def metrics_of(quantiles: np.ndarray, naive: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return the metrics of forecasts of one horizon; quantiles and naive: [n, 7], target: [n]."""
    times = np.arange(len(target), dtype=np.int64)
    ours, theirs = (holdout_forecasts(times, item[:, None], target[:, None]) for item in (quantiles, naive))
    return metrics(ours, theirs)


def test_pinball_of_one_quantile_at_a_time() -> None:
    """Above a quantile costs its level, below it one less the level; the mean is over seven levels."""
    loss = pinball(np.array([SPREAD]), np.array([0.2]))
    above = [0.05 * 0.6, 0.10 * 0.5, 0.25 * 0.3, 0.50 * 0.2, 0.75 * 0.1]
    below = [0.10 * 0.1, 0.05 * 0.2]
    assert loss == pytest.approx([(sum(above) + sum(below)) / 7])


def test_coverage_is_the_share_inside_the_band() -> None:
    # distances from the medians: -0.05, -0.1, +0.45, -0.5
    assert coverage(FORECAST, TARGET, 0.5) == 0.5  # -0.1 lies on the edge, which is inside
    assert coverage(FORECAST, TARGET, 0.8) == 0.5
    assert coverage(FORECAST + np.array([[0.0], [0.0], [0.1], [0.0]]), TARGET, 0.9) == 0.75


def test_errors_and_direction_of_the_median() -> None:
    found = metrics_of(FORECAST, np.tile(SPREAD, (4, 1)), TARGET)

    assert found["mae"] == pytest.approx((0.05 + 0.1 + 0.45 + 0.5) / 4)
    assert found["mae_naive"] == pytest.approx((0.05 + 0.2 + 0.35 + 0.5) / 4)
    assert found["rmse"] == pytest.approx(((0.0025 + 0.01 + 0.2025 + 0.25) / 4) ** 0.5)
    assert found["rmse_naive"] == pytest.approx(((0.0025 + 0.04 + 0.1225 + 0.25) / 4) ** 0.5)
    assert found["direction"] == 0.5  # right, right, wrong, and no direction at all
    assert found["holdout_candles"] == 4


def test_direction_leaves_out_candles_that_did_not_move() -> None:
    found = metrics_of(FORECAST, FORECAST, np.array([0.05, 0.0, 0.0, 0.0]))
    assert found["direction"] == 1.0


def test_every_horizon_has_its_skill_and_coverage_over_the_closes_that_are_known() -> None:
    random = np.random.default_rng(5)
    target = random.normal(0, 0.01, (400, 2)).cumsum(axis=1)
    target[-1, 1] = np.nan  # not closed yet
    levels = np.quantile(random.normal(0, 0.01, 10_000), [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
    wide = np.tile(levels * 2, (400, 2, 1))
    fitting = np.tile(np.stack([levels, levels * 2**0.5]), (400, 1, 1))
    times = np.arange(400, dtype=np.int64)
    found = metrics(holdout_forecasts(times, fitting, target), holdout_forecasts(times, wide, target))
    assert found["skill_vs_naive_h01"] == pytest.approx(found["skill_vs_naive"])
    assert found["skill_vs_naive_h01"] > found["skill_vs_naive_h02"] > 0
    assert found["coverage_80_h02"] == pytest.approx(0.8, abs=0.06)
    assert holdout_forecasts(times, fitting, target).at(2).target_open_ms[-1] == 398


def test_the_skill_in_the_mean_gives_each_scored_horizon_the_same_weight() -> None:
    random = np.random.default_rng(8)
    target = random.normal(0, 0.01, (500, 24)).cumsum(axis=1)
    for ahead in range(2, 25):
        target[-ahead + 1 :, ahead - 1] = np.nan  # not closed yet
    bands = np.sqrt(np.arange(1, 25))[:, None] * 0.01 * np.array([-1.645, -1.2816, -0.674, 0, 0.674, 1.2816, 1.645])
    factors = np.linspace(1.0, 2.0, 24)[:, None]  # the wider, the worse
    times = np.arange(500, dtype=np.int64)
    ours = holdout_forecasts(times, np.tile(bands * factors, (500, 1, 1)), target)
    naive = holdout_forecasts(times, np.tile(bands * 1.5, (500, 1, 1)), target)
    found = metrics(ours, naive)
    each = [found[f"skill_vs_naive_h{horizon:02d}"] for horizon in HORIZON_GRID]
    assert each[0] > 0 > each[-1]
    assert found[MEAN_SKILL] == pytest.approx(np.mean(each))
    assert found[MEAN_SKILL] * found[MEAN_T] > 0


def test_paths_inside_the_band_throughout() -> None:
    steps = np.random.default_rng(6).normal(0, 1, (20_000, 24)).cumsum(axis=1)
    levels = np.array([-1.645, -1.2816, -0.674, 0, 0.674, 1.2816, 1.645])
    bands = np.sqrt(np.arange(1, 25))[:, None] * levels
    forecasts = holdout_forecasts(np.arange(20_000), np.tile(bands, (20_000, 1, 1)), steps)
    assert forecasts.inside_throughout() == pytest.approx(random_walk_inside(24), abs=0.01)
    assert random_walk_inside(1) == pytest.approx(0.8, abs=0.005)


def test_skill_is_the_share_of_loss_saved() -> None:
    naive = np.tile(SPREAD, (4, 1))
    found = metrics_of(FORECAST, naive, TARGET)
    saved = 1 - pinball(FORECAST, TARGET).mean() / pinball(naive, TARGET).mean()
    assert found["skill_vs_naive"] == pytest.approx(saved)


def test_the_margin_of_the_skill_is_two_standard_errors() -> None:
    random = np.random.default_rng(3)
    target = random.normal(0, 0.01, 500)
    naive = np.tile(np.quantile(target, [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]), (500, 1))

    found = metrics_of(naive * 0.8, naive, target)

    errors_away = found["skill_vs_naive"] / found["skill_margin"] * 1.96
    assert errors_away == pytest.approx(found["diebold_mariano_t_vs_naive"])


def test_the_error_of_the_next_close_has_two_lags() -> None:
    """1, 3, 1, 3 around 2 has variance 1 and covariances -3/4 and 1/2, with the weights 2/3 and 1/3."""
    ours, theirs = np.zeros(4), np.array([1.0, 3.0, 1.0, 3.0])
    variance = 1 + 2 * (2 / 3 * -0.75 + 1 / 3 * 0.5)
    assert diebold_mariano(ours, theirs) == pytest.approx(2 / (variance / 4) ** 0.5)
    assert diebold_mariano(theirs, ours) == pytest.approx(-2 / (variance / 4) ** 0.5)


def test_the_gain_in_the_mean_over_columns_has_the_t_of_its_rows() -> None:
    """Without unknown values the mean over columns is a series like any other, and its t a Diebold-Mariano t."""
    gains = np.random.default_rng(2).normal(0.1, 1.0, (200, 3))
    expected = diebold_mariano(-gains.mean(axis=1), np.zeros(200), horizon=5)
    assert t_of_mean_gain(gains, longest=5) == pytest.approx(expected)


def test_unknown_gains_leave_the_others_their_weight() -> None:
    """The second column knows half of its values: its mean counts as much as the other, with twice the variance."""
    random = np.random.default_rng(3)
    gains = random.normal(0.0, 1.0, (10_000, 2)) + 0.03
    gains[5000:, 1] = np.nan
    means = np.nanmean(gains, axis=0)
    assert t_of_mean_gain(gains, longest=1) == pytest.approx(means.mean() / (np.sqrt(1 + 2) / 2 / 100), rel=0.1)
