"""Did a week of served forecasts do what they promised, and is the market still the one that was trained on?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from make_us_rich.documents import QUANTILE_LEVELS, Score
from make_us_rich.forecasting.evaluation import coverage, diebold_mariano, pinball
from make_us_rich.market.candles import Candles

Array = NDArray[np.float64]

FEWEST = 24
"""Forecasts below which nothing is judged."""

# Both are far out, because every pair is judged several times a day and a false alarm costs trust.
_WORSE_T = -3.0
_COVERAGE_Z = 4.0
_MOVED = 0.25  # the usual limit of the population stability index (Siddiqi 2006): a large shift
_BINS = 10
_DAY = 24
_FLOOR = 1e-4


def judge(quantiles: Array, happened: Array, past: Array, shift: dict[str, float]) -> Score:
    """quantiles: [n, 7] and happened: [n], log returns, oldest first. past: [m], the returns before the first of them.

    The naive forecast is the random walk with the quantiles of `past`.
    """
    n = len(happened)
    naive = np.tile(np.quantile(past, QUANTILE_LEVELS), (n, 1))
    ours, theirs = pinball(quantiles, happened), pinball(naive, happened)
    skill, t = float(1 - ours.mean() / theirs.mean()), diebold_mariano(ours, theirs)
    inside = coverage(quantiles, happened, 0.8)
    complaints = _complaints(n, skill, t, inside)
    moved = [f"{name} {index:.2f}" for name, index in shift.items() if index > _MOVED]
    if complaints and moved:
        complaints.append(f"the market moved: stability index of {', '.join(moved)}")
    reason = "; ".join(complaints) or ("too few to judge" if n < FEWEST else "as promised")
    return Score(
        n=n,
        skill_vs_naive=skill,
        t_vs_naive=t,
        coverage_80=inside,
        shift=shift,
        drifted=bool(complaints),
        reason=reason,
    )


def _complaints(n: int, skill: float, t: float, inside: float) -> list[str]:
    if n < FEWEST:
        return []
    found = []
    if t < _WORSE_T:
        found.append(f"worse than naive: skill {skill:+.1%}, Diebold-Mariano t {t:+.1f}")
    if abs(inside - 0.8) > _COVERAGE_Z * (0.8 * 0.2 / n) ** 0.5:
        found.append(f"the 80 % band held {inside:.0%} of {n} closes")
    return found


def population_shift(before: Candles, now: Candles) -> dict[str, float]:
    """Population stability index of what the models look at: size of moves, range and volume, each beside its day.

    sum of (share now - share before) ln(share now / share before) over the deciles of `before`.
    """
    then, recent = _features(before), _features(now)
    return {name: _stability(then[name], recent[name]) for name in then}


def _features(candles: Candles) -> dict[str, Array]:
    returns = np.diff(np.log(candles.close))
    spread = np.log(candles.high / candles.low)[1:]
    volume = candles.volume[1:]
    return {
        "move": returns[_DAY - 1 :] / (_day_mean(np.abs(returns)) + 1e-9),
        "range": np.log(spread[_DAY - 1 :] + 1e-6),
        "volume": np.log((volume[_DAY - 1 :] + 1e-12) / (_day_mean(volume) + 1e-12)),
    }


def _day_mean(values: Array) -> Array:
    mean: Array = np.convolve(values, np.full(_DAY, 1 / _DAY), mode="valid")
    return mean


def _stability(before: Array, now: Array) -> float:
    edges = np.quantile(before, np.linspace(0, 1, _BINS + 1)[1:-1])
    then, recent = (
        np.bincount(np.searchsorted(edges, values), minlength=_BINS) / len(values) + _FLOOR for values in (before, now)
    )
    return float(((recent - then) * np.log(recent / then)).sum())
