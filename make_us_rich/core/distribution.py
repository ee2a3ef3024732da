"""The distribution function that seven quantiles and a tail describe.

Between the quantiles, the logarithm of the price is linear in the normal score of the probability, which is exact for a
log-normal price. Beyond q05 and q95 the distance of the log price to that quantile follows a generalised Pareto
distribution (Pickands 1975), whose two parameters were fitted in training.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.quantile_levels import QUANTILE_LEVELS as LEVELS

Array = NDArray[np.float64]

DEFAULT_TAIL = (0.3, 0.1)
"""Scale and shape of a tail that was never fitted: between those of a normal and a Student t distribution."""

_MEDIAN = LEVELS.index(0.5)
_TAIL = LEVELS[0]  # the probability of each tail
_SCORES = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
_SMALLEST_SHAPE = 1e-6
_SMALLEST_SPREAD = 1e-9  # of log prices, for quantiles that are equal


def probability_below(log_prices: Array, log_quantiles: Array, tails: Array) -> Array:
    """Return the probability that each log price ends below `log_prices`, [n].

    log_prices: [n]; log_quantiles: [n, 7], the quantiles at LEVELS. tails: [n, 2], the scale in units of the distance
    between the median and q05 or q95, and the shape: 0 is an exponential tail, above 0 a heavier one.
    """
    low, median, high = (log_quantiles[:, index] for index in (0, _MEDIAN, -1))
    scale, shape = tails.T
    below = _TAIL * _survival((low - log_prices).clip(0), scale * (median - low), shape)
    above = _TAIL * _survival((log_prices - high).clip(0), scale * (high - median), shape)
    segment = (log_prices[:, None] >= log_quantiles[:, 1:-1]).sum(axis=1)  # the pair of quantiles around the price
    rows = np.arange(len(log_prices))
    left, right = log_quantiles[rows, segment], log_quantiles[rows, segment + 1]
    share = (log_prices - left) / np.maximum(right - left, _SMALLEST_SPREAD)
    between = _normal_cdf(_SCORES[segment] + share.clip(0, 1) * (_SCORES[segment + 1] - _SCORES[segment]))
    probability: Array = np.where(log_prices < low, below, np.where(log_prices >= high, 1 - above, between))
    return probability


def expected_move(log_returns: Array, tails: Array) -> Array:
    """Return the mean absolute log return, [n]. log_returns: [n, 7], quantiles; tails: [n, 2], scale and shape."""
    down, up = _mean_excess(log_returns, tails)
    low, high = log_returns[:, 0], log_returns[:, -1]
    # beyond q05 and q95 the sign of the return is almost always that of the quantile
    beyond = np.abs(low - down) + np.abs(high + up)
    mean: Array = np.abs(_body(log_returns)) @ _WEIGHTS + _TAIL * beyond
    return mean


def standard_deviation(log_returns: Array, tails: Array) -> Array:
    """Return the standard deviation of the log return, [n]. Arguments as for `expected_move`."""
    body, (down, up) = _body(log_returns), _mean_excess(log_returns, tails)
    low, high = log_returns[:, 0], log_returns[:, -1]
    factor = 2 * (1 - tails[:, 1]) / (1 - 2 * tails[:, 1])  # mean square of the excess over its squared mean
    mean = body @ _WEIGHTS + _TAIL * (low - down + high + up)
    beyond = low**2 - 2 * low * down + factor * down**2 + high**2 + 2 * high * up + factor * up**2
    deviation: Array = np.sqrt(body**2 @ _WEIGHTS + _TAIL * beyond - mean**2)
    return deviation


def _survival(excess: Array, scale: Array, shape: Array) -> Array:
    """Return the probability that an excess is larger than this one, within its tail, [n]."""
    ratio = excess / np.maximum(scale, _SMALLEST_SPREAD)
    heavy = np.maximum(shape, _SMALLEST_SHAPE)
    survival: Array = np.where(shape < _SMALLEST_SHAPE, np.exp(-ratio), (1 + heavy * ratio) ** (-1 / heavy))
    return survival


def _mean_excess(log_returns: Array, tails: Array) -> tuple[Array, Array]:
    """Return the mean distance to q05 of the returns below it, and to q95 of those above it, each [n]."""
    median = log_returns[:, _MEDIAN]
    unit = tails[:, 0] / (1 - tails[:, 1])
    return unit * (median - log_returns[:, 0]), unit * (log_returns[:, -1] - median)


def _quadrature() -> tuple[Array, Array]:
    """Return (matrix [7, k], weights [k]): the log returns at k probabilities, and how much each stands for."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    columns, sizes = [], []
    for index in range(len(LEVELS) - 1):
        low, high = LEVELS[index], LEVELS[index + 1]
        for node, weight in zip(nodes, weights, strict=True):
            probability = low + (high - low) * (node + 1) / 2
            score = NormalDist().inv_cdf(probability)
            share = (score - _SCORES[index]) / (_SCORES[index + 1] - _SCORES[index])
            column = np.zeros(len(LEVELS))
            column[index], column[index + 1] = 1 - share, share
            columns.append(column)
            sizes.append((high - low) * weight / 2)
    return np.stack(columns, axis=1), np.array(sizes)


_MATRIX, _WEIGHTS = _quadrature()
_normal_cdf = np.vectorize(NormalDist().cdf, otypes=[np.float64])


def _body(log_returns: Array) -> Array:
    body: Array = log_returns @ _MATRIX
    return body
