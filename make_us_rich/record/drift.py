"""Score a week of served forecasts from their outcomes, and decide whether they drifted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from make_us_rich.database.outcomes import ScoredForecasts
from make_us_rich.documents import HorizonScore, Score
from make_us_rich.forecasting.evaluation import diebold_mariano, t_of_mean_gain
from make_us_rich.record.figures import inside_80, losses

MIN_SCORED = 24
"""Served forecasts below this number are not checked for drift."""

# Forecasts of neighbouring candles share all but one candle of their targets: n of them are worth n / horizon.
_MIN_INDEPENDENT = 5
# Both limits are wide: every pair is scored several times a day, and false alarms cost trust. With EWMA forecasts of 10
# recorded pairs 0.33 % and 0.56 % of the 7,330 weeks that begin at each midnight are beyond them;
# tests/unit/test_drift.py repeats a part.
_DRIFT_T = -4.5
_DRIFT_COVERAGE_Z = 4.0
_LARGE_SHIFT = 0.25  # the usual limit of the population stability index (Siddiqi 2006)


@dataclass(frozen=True, eq=False)
class _HorizonGains:
    """The score at one horizon, and by how much each forecast beat naive, in units of the mean naive loss.

    as_of_ms and gains: [n], of the forecasts that are scored.
    """

    score: HorizonScore
    as_of_ms: NDArray[np.int64]
    gains: NDArray[np.float64]

    @property
    def is_counted(self) -> bool:
        """True if there are enough forecasts for a t; see _MIN_INDEPENDENT."""
        return self.score.n >= max(MIN_SCORED, _MIN_INDEPENDENT * self.score.horizon)


def score_served(week: Sequence[ScoredForecasts], shift: Mapping[str, float]) -> Score | None:
    """Score a week of served forecasts against the random walk; None if none can be scored at the next close.

    week: at each horizon, the shortest first. shift: see `population_shift`. The skill is the mean over the horizons,
    each with the same weight: one less the mean of (pinball loss at the horizon / naive's loss there). Losses grow with
    the horizon, so that a plain mean would be one of the longest horizons. A horizon counts once it has five times as
    many forecasts as candles, and 24 at least; until the first one does, the next close counts alone.
    """
    found = [_at_horizon(each) for each in week]
    if found[0].score.n == 0:
        return None
    judged = [each for each in found if each.score.n + each.score.skipped]
    counted = [each for each in judged if each.is_counted] or judged[:1]
    n, gains = judged[0].score.n, _side_by_side(counted)
    skill, t = float(np.nanmean(gains, axis=0).mean()), t_of_mean_gain(gains, longest=counted[-1].score.horizon)
    problems = _drift_problems(skill, t, [each.score for each in counted]) if n >= MIN_SCORED else []
    shifted = [f"{name} {index:.2f}" for name, index in shift.items() if index > _LARGE_SHIFT]
    if problems and shifted:
        problems.append(f"the market has changed: population stability index of {', '.join(shifted)}")
    return Score(
        n=n,
        skill_vs_naive=skill,
        t_vs_naive=t,
        coverage_80=float(np.mean([each.score.coverage_80 for each in counted])),
        shift=dict(shift),
        drifted=bool(problems),
        reason="; ".join(problems) or ("too few forecasts to score" if n < MIN_SCORED else "no drift"),
        horizons=tuple(each.score for each in judged),
    )


def _at_horizon(found: ScoredForecasts) -> _HorizonGains:
    known, ours, theirs = losses(found, "naive")
    gains = (theirs - ours) / theirs.mean() if len(ours) else ours
    score = HorizonScore(
        horizon=found.horizon,
        n=len(ours),
        skill_vs_naive=float(gains.mean()) if len(ours) else None,
        coverage_80=float(inside_80(found)[known].mean()) if len(ours) else None,
        t_vs_naive=diebold_mariano(ours, theirs, horizon=found.horizon) if len(ours) else None,
        skipped=found.skipped,
    )
    return _HorizonGains(score, found.as_of_ms[known], gains)


def _side_by_side(counted: Sequence[_HorizonGains]) -> NDArray[np.float64]:
    """Return the gains [times, horizons] of the forecasts as of each time; NaN where one is not scored."""
    times = np.unique(np.concatenate([each.as_of_ms for each in counted]))
    gains = np.full((len(times), len(counted)), np.nan)
    for column, each in enumerate(counted):
        gains[np.searchsorted(times, each.as_of_ms), column] = each.gains
    return gains


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
