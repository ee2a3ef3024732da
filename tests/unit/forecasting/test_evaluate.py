"""Metrics of forecasts, compared with values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from make_us_rich.core.errors import BadModel
from make_us_rich.forecasting.evaluation import compare, coverage, diebold_mariano, holdout_forecasts, metrics, pinball

# the quantiles' distances from the median, the same for every candle
SPREAD = np.array([-0.4, -0.3, -0.1, 0.0, 0.1, 0.3, 0.4])
TARGET = np.array([0.05, -0.2, 0.35, -0.5])
MEDIANS = np.array([0.1, -0.1, -0.1, 0.0])
FORECAST = MEDIANS[:, None] + SPREAD


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
    found = metrics(FORECAST, np.tile(SPREAD, (4, 1)), TARGET)

    assert found["mae"] == pytest.approx((0.05 + 0.1 + 0.45 + 0.5) / 4)
    assert found["mae_naive"] == pytest.approx((0.05 + 0.2 + 0.35 + 0.5) / 4)
    assert found["rmse"] == pytest.approx(((0.0025 + 0.01 + 0.2025 + 0.25) / 4) ** 0.5)
    assert found["rmse_naive"] == pytest.approx(((0.0025 + 0.04 + 0.1225 + 0.25) / 4) ** 0.5)
    assert found["direction"] == 0.5  # right, right, wrong, and no direction at all
    assert found["holdout_candles"] == 4


def test_direction_leaves_out_candles_that_did_not_move() -> None:
    found = metrics(FORECAST, FORECAST, np.array([0.05, 0.0, 0.0, 0.0]))
    assert found["direction"] == 1.0


def test_skill_is_the_share_of_loss_saved() -> None:
    naive = np.tile(SPREAD, (4, 1))
    found = metrics(FORECAST, naive, TARGET)
    saved = 1 - pinball(FORECAST, TARGET).mean() / pinball(naive, TARGET).mean()
    assert found["skill_vs_naive"] == pytest.approx(saved)


def test_the_margin_of_the_skill_is_two_standard_errors() -> None:
    random = np.random.default_rng(3)
    target = random.normal(0, 0.01, 500)
    naive = np.tile(np.quantile(target, [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]), (500, 1))

    found = metrics(naive * 0.8, naive, target)

    errors_away = found["skill_vs_naive"] / found["skill_margin"] * 1.96
    assert errors_away == pytest.approx(found["diebold_mariano_t_vs_naive"])


def test_diebold_mariano_without_lags_is_a_plain_t() -> None:
    """Four differences allow one lag: 1, 3, 1, 3 around 2 has variance 1 and covariance -3/4, with weight 1/2."""
    ours, theirs = np.zeros(4), np.array([1.0, 3.0, 1.0, 3.0])
    lags = int(4 * (4 / 100) ** (2 / 9))
    assert lags == 1
    variance = 1 + 2 * 0.5 * -0.75
    assert diebold_mariano(ours, theirs) == pytest.approx(2 / (variance / 4) ** 0.5)
    assert diebold_mariano(theirs, ours) == pytest.approx(-2 / (variance / 4) ** 0.5)


def test_a_comparison_is_made_on_common_candles_only() -> None:
    ours = holdout_forecasts(np.array([1, 2, 3]), np.tile(SPREAD, (3, 1)), np.array([0.0, 0.0, 9.0]))
    theirs = holdout_forecasts(np.array([0, 1, 2]), np.tile(SPREAD + 1, (3, 1)), np.zeros(3))
    mine, other, t = compare(ours, theirs)
    assert mine == pytest.approx(pinball(np.array([SPREAD]), np.zeros(1))[0])
    assert other == pytest.approx(pinball(np.array([SPREAD + 1]), np.zeros(1))[0])
    assert t == 0.0  # the difference never changes: there is nothing to compare it with


def test_models_without_a_common_candle_are_not_compared() -> None:
    early, late = (holdout_forecasts(np.array([at]), np.array([SPREAD]), np.zeros(1)) for at in (1, 2))
    with pytest.raises(BadModel, match="no held-out candle in common"):
        compare(early, late)
