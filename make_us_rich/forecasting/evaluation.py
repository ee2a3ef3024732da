"""Evaluate forecasts: metrics on a holdout, comparison of two models, and the score of served forecasts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.errors import BadModel
from make_us_rich.documents import QUANTILE_LEVELS, Score
from make_us_rich.market.candles import Candles

_LEVELS = np.array(QUANTILE_LEVELS)
_MEDIAN = QUANTILE_LEVELS.index(0.50)
_NORMAL_95 = 1.96

MIN_SCORED = 24
"""Served forecasts below this number are not checked for drift."""

# Both limits are wide: every pair is scored several times a day, and false alarms cost trust.
_DRIFT_T = -3.0
_DRIFT_COVERAGE_Z = 4.0
_LARGE_SHIFT = 0.25  # the usual limit of the population stability index (Siddiqi 2006)
_SHIFT_BINS = 10
_MIN_SHARE = 1e-4  # avoids the logarithm of an empty bin
_DAY = 24

Array = NDArray[np.float64]


def pinball(quantiles: Array, target: Array) -> Array:
    """Return the mean pinball loss over the levels, [n], in the unit of the target (Koenker and Bassett 1978).

    quantiles: [n, 7]; target: [n]. Twice its integral over all levels is the CRPS.
    """
    error = target[:, None] - quantiles
    loss: Array = np.maximum(_LEVELS * error, (_LEVELS - 1) * error).mean(axis=1)
    return loss


def coverage(quantiles: Array, target: Array, level: float) -> float:
    """Return the share of targets inside the central band that should hold `level` of them, such as 0.8."""
    low = int(np.argmin(np.abs(_LEVELS - (1 - level) / 2)))
    inside = (target >= quantiles[:, low]) & (target <= quantiles[:, -1 - low])
    return float(inside.mean())


def metrics(quantiles: Array, naive: Array, target: Array) -> dict[str, float]:
    """Compute the metrics that are logged of a model; naive: [n, 7], the naive quantiles of the same candles."""
    ours, theirs = pinball(quantiles, target), pinball(naive, target)
    median = quantiles[:, _MEDIAN]
    moved = target != 0
    mean_naive = float(theirs.mean())
    return {
        "pinball": float(ours.mean()),
        "pinball_naive": mean_naive,
        "skill_vs_naive": float(1 - ours.mean() / mean_naive),
        "skill_margin": _NORMAL_95 * standard_error(theirs - ours) / mean_naive,
        "diebold_mariano_t_vs_naive": diebold_mariano(ours, theirs),
        "coverage_50": coverage(quantiles, target, 0.5),
        "coverage_80": coverage(quantiles, target, 0.8),
        "coverage_90": coverage(quantiles, target, 0.9),
        "mae": float(np.abs(target - median).mean()),
        "mae_naive": float(np.abs(target).mean()),
        "rmse": float(np.sqrt(((target - median) ** 2).mean())),
        "rmse_naive": float(np.sqrt((target**2).mean())),
        "direction": float((np.sign(median[moved]) == np.sign(target[moved])).mean()),
        "holdout_candles": float(len(target)),
    }


def diebold_mariano(ours: Array, theirs: Array) -> float:
    """Return t of the mean loss difference; above zero when ours is smaller (Diebold and Mariano 1995)."""
    error = standard_error(theirs - ours)
    return float((theirs - ours).mean()) / error if error > 0 else 0.0


def standard_error(difference: Array) -> float:
    """Return the standard error of the mean of an autocorrelated series, [n].

    Newey-West with Bartlett weights and 4 (n/100)^(2/9) lags (Newey and West 1994).
    """
    n = len(difference)
    centred = difference - difference.mean()
    lags = min(n - 1, int(4 * (n / 100) ** (2 / 9)))
    variance = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / n
    return math.sqrt(max(variance, 0.0) / n)


@dataclass(frozen=True, eq=False)
class HoldoutForecasts:
    """A model's forecasts of candles that it was not trained on, and the actual returns.

    target_open_ms: int64 [n]. quantiles of the log return: [n, 7]; target: [n]; losses: pinball [n].
    """

    target_open_ms: NDArray[np.int64]
    quantiles: Array
    target: Array
    losses: Array


def holdout_forecasts(
    target_open_ms: NDArray[np.int64], quantiles: NDArray[Any], target: NDArray[Any]
) -> HoldoutForecasts:
    """Build HoldoutForecasts in double precision, with the loss of each forecast."""
    forecast, actual = quantiles.astype(np.float64), target.astype(np.float64)
    return HoldoutForecasts(target_open_ms, forecast, actual, pinball(forecast, actual))


def compare(challenger: HoldoutForecasts, champion: HoldoutForecasts) -> tuple[float, float, float]:
    """Return (challenger's mean loss, champion's, Diebold-Mariano t) on the candles that both forecast.

    Raises BadModel when they have no candle in common.
    """
    _, ours, theirs = np.intersect1d(challenger.target_open_ms, champion.target_open_ms, return_indices=True)
    if len(ours) == 0:
        raise BadModel("challenger and champion have no held-out candle in common: they cannot be compared")
    mine, other = challenger.losses[ours], champion.losses[theirs]
    return float(mine.mean()), float(other.mean()), diebold_mariano(mine, other)


def score_served(quantiles: Array, actual: Array, past: Array, shift: dict[str, float]) -> Score:
    """Score a week of served forecasts, and decide whether they drifted.

    quantiles: [n, 7]; actual: [n], log returns, oldest first. past: [m], the returns before the first of them; the
    naive forecast is the random walk with their quantiles. shift: see `population_shift`.
    """
    n = len(actual)
    naive = np.tile(np.quantile(past, QUANTILE_LEVELS), (n, 1))
    ours, theirs = pinball(quantiles, actual), pinball(naive, actual)
    skill, t = float(1 - ours.mean() / theirs.mean()), diebold_mariano(ours, theirs)
    inside = coverage(quantiles, actual, 0.8)
    problems = _drift_problems(n, skill, t, inside)
    shifted = [f"{name} {index:.2f}" for name, index in shift.items() if index > _LARGE_SHIFT]
    if problems and shifted:
        problems.append(f"the market has changed: population stability index of {', '.join(shifted)}")
    reason = "; ".join(problems) or ("too few forecasts to score" if n < MIN_SCORED else "no drift")
    return Score(
        n=n, skill_vs_naive=skill, t_vs_naive=t, coverage_80=inside, shift=shift, drifted=bool(problems), reason=reason
    )


def _drift_problems(n: int, skill: float, t: float, inside: float) -> list[str]:
    if n < MIN_SCORED:
        return []
    found = []
    if t < _DRIFT_T:
        found.append(f"worse than naive: skill {skill:+.1%}, Diebold-Mariano t {t:+.1f}")
    if abs(inside - 0.8) > _DRIFT_COVERAGE_Z * (0.8 * 0.2 / n) ** 0.5:
        found.append(f"the 80 % band covered {inside:.0%} of {n} closes")
    return found


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
