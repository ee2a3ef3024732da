"""The distribution that quantiles and a tail describe, compared with distributions whose values are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy import stats

from make_us_rich.core import distribution
from make_us_rich.core.distribution import DEFAULT_TAIL, LEVELS, expected_move, standard_deviation
from make_us_rich.forecasting.networks import fit_tails

_DEVIATION = 0.02
_NORMAL = [100 * math.exp(_DEVIATION * NormalDist().inv_cdf(level)) for level in LEVELS]


def probability_below(price: float, prices: Sequence[float], scale: float, shape: float) -> float:
    (found,) = distribution.probability_below(np.log([price]), np.log([prices]), np.array([[scale, shape]]))
    return float(found)


@pytest.mark.parametrize("price", [97.0, 98.5, 99.9, 100.0, 100.4, 102.0, 103.2])
def test_between_the_quantiles_a_log_normal_price_has_its_exact_probability(price: float) -> None:
    expected = NormalDist().cdf(math.log(price / 100) / _DEVIATION)
    assert probability_below(price, _NORMAL, *DEFAULT_TAIL) == pytest.approx(expected, abs=1e-12)


def test_the_probability_never_falls_with_the_price_and_reaches_the_levels() -> None:
    found = [probability_below(price, _NORMAL, 0.4, 0.2) for price in np.geomspace(80, 125, 2000)]
    assert (np.diff(found) >= 0).all()
    assert found[0] > 0
    assert found[-1] < 1
    for price, level in zip(_NORMAL, LEVELS, strict=True):
        assert probability_below(price, _NORMAL, 0.4, 0.2) == pytest.approx(level, abs=1e-12)


@pytest.mark.parametrize("shape", [0.0, 0.25])
def test_the_tails_are_generalised_pareto(shape: float) -> None:
    scale = 0.3
    unit = scale * math.log(_NORMAL[3] / _NORMAL[0])
    price = _NORMAL[0] * math.exp(-2 * unit)
    assert probability_below(price, _NORMAL, scale, shape) == pytest.approx(0.05 * stats.genpareto.sf(2, shape))
    price = _NORMAL[-1] * math.exp(2 * unit)
    assert probability_below(price, _NORMAL, scale, shape) == pytest.approx(1 - 0.05 * stats.genpareto.sf(2, shape))


def test_equal_quantiles_still_give_a_probability() -> None:
    flat = [99.0, 100.0, 100.0, 100.0, 100.0, 100.0, 101.0]
    assert probability_below(100.0, flat, *DEFAULT_TAIL) == pytest.approx(0.9)
    assert 0 <= probability_below(50.0, [100.0] * 7, *DEFAULT_TAIL) < 1e-6


@pytest.mark.parametrize(("freedom", "tolerance"), [(4, 0.03), (8, 0.01), (1000, 0.01)])
def test_moments_of_a_student_distribution(freedom: float, tolerance: float) -> None:
    """The tail is fitted on a sample, as training does."""
    known = stats.t(freedom, scale=0.01)
    quantiles = known.ppf(LEVELS)
    tail = _fitted(known.rvs(200_000, random_state=0), quantiles)
    assert expected_move(quantiles[None], tail)[0] == pytest.approx(known.expect(abs), rel=tolerance)
    assert standard_deviation(quantiles[None], tail)[0] == pytest.approx(known.std(), rel=tolerance)


def test_a_tail_of_few_values_is_not_fitted() -> None:
    assert _fitted(np.zeros(100), np.linspace(-1, 1, 7)) == pytest.approx(np.array([DEFAULT_TAIL]))


def test_a_fitted_tail_finds_the_parameters_that_made_it() -> None:
    beyond = stats.genpareto.rvs(0.2, scale=0.5, size=20_000, random_state=1)
    (tail,) = _fitted(np.concatenate([-1 - beyond, 1 + beyond]), np.linspace(-1, 1, 7))
    assert tail == pytest.approx([0.5, 0.2], abs=0.05)


def _fitted(sample: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Return scale and shape of the tails, [1, 2]."""
    values = torch.from_numpy(sample)[:, None]
    return fit_tails(values, torch.from_numpy(quantiles).expand(len(sample), 1, 7)).double().numpy()
