"""How true the probabilities are that a forecast gives: Brier score and reliability of closes above a price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.distribution import DEFAULT_TAIL, probability_below
from make_us_rich.forecasting.evaluation import HorizonSeries

Array = NDArray[np.float64]

_THRESHOLDS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of the close, in standard deviations of past returns of the horizon
_BINS = 10
_FAR_TAIL = 0.01


@dataclass(frozen=True, eq=False)
class ProbabilityScore:
    """Probabilities of closes above five prices, 0, 1 and 2 standard deviations around the last close, at one horizon.

    brier, brier_naive: mean squared difference between the probability and the outcome (Brier 1950), of the model and
    of the naive forecast. brier_up, brier_up_naive: the same of a close above the last one.
    forecast, came: [10], mean probability and share that came, by the tenth of the probability; NaN for an empty one;
    count: [10]. beyond_1: share of closes outside the model's 1 % and 99 % points, which tails beyond the quantiles
    give; 2 % is right.
    """

    brier: float
    brier_naive: float
    brier_up: float
    brier_up_naive: float
    forecast: Array
    came: Array
    count: Array
    beyond_1: float


def score_probabilities(
    series: HorizonSeries, tails: Array, naive_series: HorizonSeries, *, scale: float
) -> ProbabilityScore:
    """Score the probabilities of one horizon. tails: [2], of the model; scale: standard deviation of past returns."""
    repeated, default = (np.tile(tail, (len(series.target), 1)) for tail in (tails, DEFAULT_TAIL))
    ours, naive, came = [], [], []
    for threshold in _THRESHOLDS:
        price = np.full(len(series.target), threshold * scale)
        ours.append(1 - probability_below(price, series.quantiles, repeated))
        naive.append(1 - probability_below(price, naive_series.quantiles, default))
        came.append(series.target > price)
    probability, outcome = np.concatenate(ours), np.concatenate(came)
    up = _THRESHOLDS.index(0.0)
    position = probability_below(series.target, series.quantiles, repeated)
    tenth = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    count = np.bincount(tenth, minlength=_BINS).astype(float)
    with np.errstate(invalid="ignore"):
        forecast, share = (np.bincount(tenth, values, _BINS) / count for values in (probability, outcome))
    return ProbabilityScore(
        brier=_brier(probability, outcome),
        brier_naive=_brier(np.concatenate(naive), outcome),
        brier_up=_brier(ours[up], came[up]),
        brier_up_naive=_brier(naive[up], came[up]),
        forecast=forecast,
        came=share,
        count=count,
        beyond_1=float(((position < _FAR_TAIL) | (position > 1 - _FAR_TAIL)).mean()),
    )


def _brier(probability: Array, outcome: NDArray[np.bool_]) -> float:
    return float(((probability - outcome) ** 2).mean())


def pool(scores: Sequence[ProbabilityScore]) -> ProbabilityScore:
    """Average scores of the same horizon with equal weights; the tenths by the number of their forecasts."""
    count = np.sum([score.count for score in scores], axis=0)
    with np.errstate(invalid="ignore"):
        forecast, came = (
            np.nansum([getattr(score, name) * score.count for score in scores], axis=0) / count
            for name in ("forecast", "came")
        )
    names = ("brier", "brier_naive", "brier_up", "brier_up_naive", "beyond_1")
    means = {name: float(np.mean([getattr(score, name) for score in scores])) for name in names}
    return ProbabilityScore(forecast=forecast, came=came, count=count, **means)
