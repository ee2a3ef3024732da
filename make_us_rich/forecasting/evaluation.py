"""Evaluate forecasts: metrics on a holdout, and the comparison of two models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.errors import BadModel
from make_us_rich.documents import HORIZON_GRID, QUANTILE_LEVELS, MeanLosses

SKILL, COVERAGE = "skill_vs_naive", "coverage_80"
MEAN_SKILL, MEAN_T = "skill_vs_naive_mean", "diebold_mariano_t_vs_naive_mean"

_LAGS_PER_CANDLE = 2  # of the horizon: Bartlett's weights would give one lag for each too small an error

_LEVELS = np.array(QUANTILE_LEVELS)
_MEDIAN = QUANTILE_LEVELS.index(0.50)
_NORMAL_95 = 1.96
_NORMAL_90 = 1.2816  # the 90 % quantile: 80 % lie between it and its negative

Array = NDArray[np.float64]


def pinball(quantiles: Array, target: Array) -> Array:
    """Return the mean pinball loss over the levels, in the unit of the target (Koenker and Bassett 1978).

    quantiles: [..., 7]; target and loss: [...], such as [n] or [n, horizons]. Twice its integral over all levels is the
    CRPS.
    """
    error = target[..., None] - quantiles
    loss: Array = np.maximum(_LEVELS * error, (_LEVELS - 1) * error).mean(axis=-1)
    return loss


def coverage(quantiles: Array, target: Array, level: float) -> float:
    """Return the share of targets inside the central band that should hold `level` of them, such as 0.8."""
    low = int(np.argmin(np.abs(_LEVELS - (1 - level) / 2)))
    inside = (target >= quantiles[:, low]) & (target <= quantiles[:, -1 - low])
    return float(inside.mean())


def metrics(model: HoldoutForecasts, naive: HoldoutForecasts) -> dict[str, float]:
    """Compute the metrics that are logged of a model, and the naive forecasts of the same candles.

    Those of the next close have plain names; skill_vs_naive_h04 and coverage_80_h04 are of 4 candles ahead, and so on.
    MEAN_SKILL and MEAN_T are of the mean over HORIZON_GRID, at each of which a loss is divided by naive's.
    """
    found = _next_close_metrics(model.at(1).quantiles, naive.at(1).quantiles, model.at(1).target)
    for horizon in range(1, model.horizons + 1):
        own, other = model.at(horizon), naive.at(horizon)
        found[f"{SKILL}_h{horizon:02d}"] = float(1 - own.losses.mean() / other.losses.mean())
        found[f"{COVERAGE}_h{horizon:02d}"] = coverage(own.quantiles, own.target, 0.8)
    columns = _scored_columns(model, naive)
    theirs = naive.losses[:, columns]
    mean = _mean_losses(model.losses[:, columns], theirs, naive=theirs, longest=columns[-1] + 1)
    return found | {MEAN_SKILL: 1 - mean.challenger, MEAN_T: mean.t}


def _next_close_metrics(quantiles: Array, naive: Array, target: Array) -> dict[str, float]:
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


def diebold_mariano(ours: Array, theirs: Array, *, horizon: int = 1) -> float:
    """Return t of the mean loss difference; above zero when ours is smaller (Diebold and Mariano 1995).

    `horizon`: see `standard_error`.
    """
    error = standard_error(theirs - ours, horizon=horizon)
    return float((theirs - ours).mean()) / error if error > 0 else 0.0


def standard_error(difference: Array, *, horizon: int = 1) -> float:
    """Return the standard error of the mean of an autocorrelated series of losses `horizon` candles ahead, [n].

    Newey-West with Bartlett weights and 4 (n/100)^(2/9) lags (Newey and West 1994), or twice the horizon if that is
    more: targets h candles ahead overlap, so that their losses are correlated over h candles.
    """
    n = len(difference)
    centred = difference - difference.mean()
    lags = min(n - 1, max(_LAGS_PER_CANDLE * horizon, int(4 * (n / 100) ** (2 / 9))))
    variance = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / n
    return math.sqrt(max(variance, 0.0) / n)


def t_of_mean_gain(gains: Array, *, longest: int) -> float:
    """Return t of the mean over columns of their means, [n, columns]; NaN where a value is unknown.

    A column is the gain at one horizon, whose newest values are unknown; `longest` is the longest horizon of them. Each
    row counts by what it adds to the mean.
    """
    known = ~np.isnan(gains)
    means = np.nanmean(gains, axis=0)
    influence = np.where(known, gains - means, 0.0) * (len(gains) / known.sum(axis=0))
    error = standard_error(influence.mean(axis=1), horizon=longest)
    return float(means.mean()) / error if error > 0 else 0.0


@dataclass(frozen=True, eq=False)
class HorizonSeries:
    """The forecasts at one horizon whose closes are known.

    target_open_ms: int64 [n], the open time of the candle after the forecast. quantiles of the log return: [n, 7];
    target: [n]; losses: pinball [n].
    """

    target_open_ms: NDArray[np.int64]
    quantiles: Array
    target: Array
    losses: Array


@dataclass(frozen=True, eq=False)
class HoldoutForecasts:
    """A model's forecasts of candles that it was not trained on, and the actual returns.

    target_open_ms: int64 [n], the open time of the next candle. quantiles of the log return: [n, horizons, 7].
    target: [n, horizons], NaN where the close is unknown; losses: pinball [n, horizons], NaN there too.
    """

    target_open_ms: NDArray[np.int64]
    quantiles: Array
    target: Array
    losses: Array

    @property
    def horizons(self) -> int:
        """How many candles ahead the model forecasts."""
        return int(self.target.shape[1])

    def inside_throughout(self) -> float:
        """Return the share of paths whose closes all stay in the 80 % band of their horizon.

        A close leaves its own band in 20 % of cases; `random_walk_inside` says what to expect of all together.
        """
        complete = np.isfinite(self.losses).all(axis=1)
        path, bands = self.target[complete], self.quantiles[complete]
        inside = (path >= bands[..., 1]) & (path <= bands[..., -2])
        return float(inside.all(axis=1).mean())

    def at(self, horizon: int) -> HorizonSeries:
        """Return the forecasts `horizon` candles ahead whose closes are known."""
        column = horizon - 1
        known = np.isfinite(self.losses[:, column])
        return HorizonSeries(
            self.target_open_ms[known],
            self.quantiles[known, column],
            self.target[known, column],
            self.losses[known, column],
        )


def holdout_forecasts(
    target_open_ms: NDArray[np.int64], quantiles: NDArray[Any], target: NDArray[Any]
) -> HoldoutForecasts:
    """Build HoldoutForecasts in double precision, with the loss of each forecast.

    quantiles: [n, horizons, 7], NaN where there is no forecast. target: [n, at least as many horizons].
    """
    forecast = quantiles.astype(np.float64, copy=False)
    actual = target[:, : forecast.shape[1]].astype(np.float64)
    return HoldoutForecasts(target_open_ms, forecast, actual, pinball(forecast, actual))


def random_walk_inside(horizons: int) -> float:
    """Return the share of Gaussian random walks that stay in the 80 % bands of 1 to `horizons` steps throughout."""
    steps = np.random.default_rng(0).standard_normal((100_000, horizons))
    bands = _NORMAL_90 * np.sqrt(np.arange(1, horizons + 1))
    return float((np.abs(steps.cumsum(axis=1)) <= bands).all(axis=1).mean())


@dataclass(frozen=True)
class ModelComparison:
    """Two models on the held-out candles that both forecast; the fields are those of documents.Comparison."""

    challenger_pinball: float
    champion_pinball: float
    t: float
    mean: MeanLosses | None
    champion_horizons: int


def compare(
    challenger: HoldoutForecasts, champion: HoldoutForecasts, naive_of_challenger: HoldoutForecasts
) -> ModelComparison:
    """Compare two models at the next close, and in the mean over the horizons of HORIZON_GRID that both have.

    At each horizon a loss is divided by the mean loss of `naive_of_challenger`, the naive forecasts of the challenger's
    candles. Raises BadModel when the models have no candle in common.
    """
    _, ours, theirs = np.intersect1d(challenger.target_open_ms, champion.target_open_ms, return_indices=True)
    if len(ours) == 0:
        raise BadModel("challenger and champion have no held-out candle in common: they cannot be compared")
    next_ours, next_theirs = challenger.losses[ours, 0], champion.losses[theirs, 0]
    known = np.isfinite(next_ours) & np.isfinite(next_theirs)
    mean = None
    if min(challenger.horizons, champion.horizons) > 1:
        columns = _scored_columns(challenger, champion)
        mean = _mean_losses(
            challenger.losses[ours][:, columns],
            champion.losses[theirs][:, columns],
            naive=naive_of_challenger.losses[ours][:, columns],
            longest=columns[-1] + 1,
        )
    return ModelComparison(
        challenger_pinball=float(next_ours[known].mean()),
        champion_pinball=float(next_theirs[known].mean()),
        t=diebold_mariano(next_ours[known], next_theirs[known]),
        mean=mean,
        champion_horizons=champion.horizons,
    )


def _mean_losses(challenger: Array, champion: Array, *, naive: Array, longest: int) -> MeanLosses:
    """Average the losses [n, k] of k horizons, each relative to naive's mean loss there. `longest`: of the horizons."""
    ours, theirs = (losses / np.nanmean(naive, axis=0) for losses in (challenger, champion))
    return MeanLosses(
        horizons=ours.shape[1],
        challenger=float(np.nanmean(ours, axis=0).mean()),
        champion=float(np.nanmean(theirs, axis=0).mean()),
        t=t_of_mean_gain(theirs - ours, longest=longest),
    )


def _scored_columns(*models: HoldoutForecasts) -> list[int]:
    """Return the columns of HORIZON_GRID that all models forecast, and of which they know a close."""
    shared = min(model.horizons for model in models)
    return [
        horizon - 1
        for horizon in HORIZON_GRID
        if horizon <= shared and all(np.isfinite(model.losses[:, horizon - 1]).any() for model in models)
    ]
