"""Score a week of served forecasts at each horizon, and decide whether they drifted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from make_us_rich.documents import HORIZON_GRID, QUANTILE_LEVELS, HorizonScore, Score
from make_us_rich.forecasting.evaluation import coverage, diebold_mariano, pinball, t_of_mean_gain
from make_us_rich.market.candles import Candles

MIN_SCORED = 24
"""Served forecasts below this number are not checked for drift."""

# Forecasts of neighbouring candles share all but one candle of their targets: n of them are worth n / horizon.
_MIN_INDEPENDENT = 5
# Both limits are wide: every pair is scored several times a day, and false alarms cost trust. With EWMA forecasts of 10
# recorded pairs 0.28 % and 0.38 % of 1,060 weeks are beyond them; tests/unit/test_drift.py repeats a part.
_DRIFT_T = -4.0
_DRIFT_COVERAGE_Z = 4.0
_LARGE_SHIFT = 0.25  # the usual limit of the population stability index (Siddiqi 2006)
_SHIFT_BINS = 10
_MIN_SHARE = 1e-4  # avoids the logarithm of an empty bin
_DAY = 24

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ServedForecasts:
    """The n forecasts of a week at the G horizons of HORIZON_GRID, oldest first, and their outcomes, as log returns.

    quantiles: [n, G, 7], NaN where a model had no such horizon. actual: [n, G], NaN where the close is unknown.
    skipped: [G], how many forecasts a gap keeps from being scored. past: for each horizon the returns over as many
    candles before the week, whose quantiles are the naive forecast.
    """

    quantiles: Array
    actual: Array
    skipped: NDArray[np.int64]
    past: Sequence[Array]


@dataclass(frozen=True, eq=False)
class _HorizonLosses:
    """The score at one horizon, and by how much each forecast beat naive, [n], in units of the mean naive loss.

    `gains` is NaN for forecasts that are not scored.
    """

    score: HorizonScore
    gains: Array

    @property
    def is_counted(self) -> bool:
        """True if there are enough forecasts for a t; see _MIN_INDEPENDENT."""
        return self.score.n >= max(MIN_SCORED, _MIN_INDEPENDENT * self.score.horizon)


def score_served(served: ServedForecasts, shift: dict[str, float]) -> Score | None:
    """Score a week of served forecasts against the random walk; None if none can be scored. shift: `population_shift`.

    The skill is the mean over HORIZON_GRID, each horizon with the same weight: one less the mean of (pinball loss at
    the horizon / naive's loss there). Losses grow with the horizon, so that a plain mean would be one of the longest
    horizons. A horizon counts once it has five times as many forecasts as candles, and 24 at least; until the first
    one does, the next close counts alone.
    """
    found = [_losses(served, column) for column in range(len(HORIZON_GRID))]
    if found[0] is None or found[0].score.n == 0:
        return None
    judged = [item for item in found if item is not None]
    counted = [item for item in judged if item.is_counted] or judged[:1]
    n, gains = judged[0].score.n, np.stack([item.gains for item in counted], axis=1)
    skill, t = float(np.nanmean(gains, axis=0).mean()), t_of_mean_gain(gains, longest=counted[-1].score.horizon)
    problems = _drift_problems(skill, t, [item.score for item in counted]) if n >= MIN_SCORED else []
    shifted = [f"{name} {index:.2f}" for name, index in shift.items() if index > _LARGE_SHIFT]
    if problems and shifted:
        problems.append(f"the market has changed: population stability index of {', '.join(shifted)}")
    return Score(
        n=n,
        skill_vs_naive=skill,
        t_vs_naive=t,
        coverage_80=float(np.mean([item.score.coverage_80 for item in counted])),
        shift=shift,
        drifted=bool(problems),
        reason="; ".join(problems) or ("too few forecasts to score" if n < MIN_SCORED else "no drift"),
        horizons=tuple(item.score for item in judged),
    )


def _losses(served: ServedForecasts, column: int) -> _HorizonLosses | None:
    """Return the score at one horizon; None if no forecast has it, or if too few candles came before the week."""
    actual, past, skipped = served.actual[:, column], served.past[column], int(served.skipped[column])
    scored = ~np.isnan(actual)
    n, horizon = int(scored.sum()), HORIZON_GRID[column]
    if len(past) < MIN_SCORED or n + skipped == 0:
        return None
    gains = np.full(len(actual), np.nan)
    if n == 0:
        nothing = HorizonScore(
            horizon=horizon, n=0, skill_vs_naive=None, coverage_80=None, t_vs_naive=None, skipped=skipped
        )
        return _HorizonLosses(nothing, gains)
    quantiles = served.quantiles[scored, column]
    naive = np.tile(np.quantile(past, QUANTILE_LEVELS), (n, 1))
    ours, theirs = pinball(quantiles, actual[scored]), pinball(naive, actual[scored])
    gains[scored] = (theirs - ours) / theirs.mean()
    score = HorizonScore(
        horizon=horizon,
        n=n,
        skill_vs_naive=float(gains[scored].mean()),
        coverage_80=coverage(quantiles, actual[scored], 0.8),
        t_vs_naive=diebold_mariano(ours, theirs, horizon=horizon),
        skipped=skipped,
    )
    return _HorizonLosses(score, gains)


def _drift_problems(skill: float, t: float, counted: Sequence[HorizonScore]) -> list[str]:
    found = []
    if t < _DRIFT_T:
        over = "" if len(counted) == 1 else " in the mean over the horizons"
        found.append(f"worse than naive{over}: skill {skill:+.1%}, Diebold-Mariano t {t:+.1f}")
    worst = max(counted, key=lambda score: abs(_coverage_z(score)))
    if abs(_coverage_z(worst)) > _DRIFT_COVERAGE_Z:
        ahead = "" if worst.horizon == 1 else f" {worst.horizon} candles ahead"
        found.append(f"the 80 % band covered {worst.coverage_80:.0%} of {worst.n} closes{ahead}")
    return found


def _coverage_z(score: HorizonScore) -> float:
    """Return how many standard errors the coverage is from 80 %, with n / horizon independent forecasts."""
    return ((score.coverage_80 or 0.0) - 0.8) / math.sqrt(0.8 * 0.2 * score.horizon / score.n)


def population_shift(before: Candles, now: Candles) -> dict[str, float]:
    """Return the population stability index of the size of moves, range and volume, each relative to its day.

    The index is the sum of (share now - share before) ln(share now / share before) over the deciles of `before`.
    """
    then, recent = _shift_features(before), _shift_features(now)
    return {name: _stability_index(then[name], recent[name]) for name in then}


def _shift_features(candles: Candles) -> dict[str, Array]:
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


def _stability_index(before: Array, now: Array) -> float:
    edges = np.quantile(before, np.linspace(0, 1, _SHIFT_BINS + 1)[1:-1])
    then, recent = (
        np.bincount(np.searchsorted(edges, values), minlength=_SHIFT_BINS) / len(values) + _MIN_SHARE
        for values in (before, now)
    )
    return float(((recent - then) * np.log(recent / then)).sum())
