"""Scores of probabilities, on forecasts that are right, too narrow, or blind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.forecasting.evaluation import HorizonSeries, pinball
from make_us_rich.forecasting.networks import fit_tails
from make_us_rich.forecasting.probabilities import ProbabilityScore, pool, score_probabilities

_KNOWN = stats.t(4, scale=0.01)
_COUNT = 20_000


def series(widening: float = 1.0) -> HorizonSeries:
    """Return forecasts of a Student t whose volatility changes; each is `widening` times as wide as it should be."""
    random = np.random.default_rng(4)
    volatility = np.exp(0.5 * random.standard_normal(_COUNT))
    target = volatility * _KNOWN.rvs(_COUNT, random_state=random)
    quantiles = widening * volatility[:, None] * _KNOWN.ppf(QUANTILE_LEVELS)
    return HorizonSeries(np.arange(_COUNT), quantiles, target, pinball(quantiles, target))


def naive() -> HorizonSeries:
    """Return the forecasts of the same closes that know their distribution and nothing of the hour."""
    known = series()
    quantiles = np.broadcast_to(np.quantile(known.target, QUANTILE_LEVELS), known.quantiles.shape)
    return HorizonSeries(known.target_open_ms, quantiles, known.target, pinball(quantiles, known.target))


def score(forecasts: HorizonSeries) -> ProbabilityScore:
    return score_probabilities(forecasts, tails(), naive(), scale=float(forecasts.target.std()))


def tails() -> np.ndarray:
    sample = torch.from_numpy(_KNOWN.rvs(100_000, random_state=7))[:, None]
    quantiles = torch.tensor(_KNOWN.ppf(QUANTILE_LEVELS)).expand(len(sample), 1, 7)
    return fit_tails(sample, quantiles)[0].double().numpy()


def test_right_forecasts_are_reliable_and_beat_naive() -> None:
    right = series()
    found = score(right)
    assert found.brier < 0.98 * found.brier_naive
    assert found.count.sum() == 5 * _COUNT
    filled = found.count > 500
    assert found.came[filled] == pytest.approx(found.forecast[filled], abs=0.03)
    assert found.beyond_1 == pytest.approx(0.02, abs=0.004)


def test_narrow_forecasts_have_too_many_closes_in_the_far_tails() -> None:
    found = score(series(0.5))
    assert found.beyond_1 > 0.06
    assert found.brier > score(series()).brier


def test_the_probability_of_a_rise_is_compared_with_naives() -> None:
    right = series()
    moved = replace(right, quantiles=right.quantiles + 0.005)
    sure = score(moved)
    assert sure.brier_up_naive == pytest.approx(0.25, abs=0.001)
    assert sure.brier_up > 1.02 * sure.brier_up_naive
    even = score(right)
    assert even.brier_up == pytest.approx(even.brier_up_naive, rel=0.001)
    assert pool([sure, even]).brier_up == pytest.approx((sure.brier_up + even.brier_up) / 2)


def test_pooled_tenths_count_their_forecasts() -> None:
    one = score(series())
    other = score(series(0.5))
    both = pool([one, other])
    assert both.brier == pytest.approx((one.brier + other.brier) / 2)
    assert both.count.sum() == 10 * _COUNT
    first = (one.came[0] * one.count[0] + other.came[0] * other.count[0]) / (one.count[0] + other.count[0])
    assert both.came[0] == pytest.approx(first)
