"""How good a forecast of quantiles is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.errors import BadModel
from make_us_rich.documents import QUANTILE_LEVELS

_LEVELS = np.array(QUANTILE_LEVELS)
_MEDIAN = QUANTILE_LEVELS.index(0.50)
_NORMAL_95 = 1.96

Array = NDArray[np.float64]


def pinball(quantiles: Array, target: Array) -> Array:
    """Mean pinball loss over the levels, [n], in the unit of the target (Koenker and Bassett 1978).

    quantiles: [n, 7]; target: [n]. Twice its integral over all levels is the CRPS.
    """
    error = target[:, None] - quantiles
    loss: Array = np.maximum(_LEVELS * error, (_LEVELS - 1) * error).mean(axis=1)
    return loss


def coverage(quantiles: Array, target: Array, level: float) -> float:
    """Share of targets inside the central band that should hold `level` of them, such as 0.8."""
    low = int(np.argmin(np.abs(_LEVELS - (1 - level) / 2)))
    inside = (target >= quantiles[:, low]) & (target <= quantiles[:, -1 - low])
    return float(inside.mean())


def metrics(quantiles: Array, naive: Array, target: Array) -> dict[str, float]:
    """What is logged of a model: its losses beside those of the naive forecast of the same rows."""
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
    """t of the mean loss difference; above zero when ours are smaller (Diebold and Mariano 1995)."""
    error = standard_error(theirs - ours)
    return float((theirs - ours).mean()) / error if error > 0 else 0.0


def standard_error(difference: Array) -> float:
    """Of the mean of a series, [n], whose members may depend on their neighbours.

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
class HeldOut:
    """A model's forecasts of candles that it was not trained on, and what happened.

    target_open_ms: int64 [n]. quantiles of the log return: [n, 7]; target: [n]; losses: pinball [n].
    """

    target_open_ms: NDArray[np.int64]
    quantiles: Array
    target: Array
    losses: Array


def held_out(target_open_ms: NDArray[np.int64], quantiles: NDArray[Any], target: NDArray[Any]) -> HeldOut:
    forecast, happened = quantiles.astype(np.float64), target.astype(np.float64)
    return HeldOut(target_open_ms, forecast, happened, pinball(forecast, happened))


def compare(challenger: HeldOut, champion: HeldOut) -> tuple[float, float, float]:
    """(challenger's mean loss, champion's, Diebold-Mariano t), on the candles that both forecast.

    Raises BadModel when they have no candle in common.
    """
    _, ours, theirs = np.intersect1d(challenger.target_open_ms, champion.target_open_ms, return_indices=True)
    if len(ours) == 0:
        raise BadModel("challenger and champion have no held-out candle in common: they cannot be compared")
    mine, other = challenger.losses[ours], champion.losses[theirs]
    return float(mine.mean()), float(other.mean()), diebold_mariano(mine, other)
