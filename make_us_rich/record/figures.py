"""Shares and skills of scored forecasts, with their 95 % intervals. Drift and the track record are computed from them.

Forecasts of neighbouring candles, h candles ahead, share all but one candle of their targets. So n of them count as
n / h independent ones in every band of a share, and the error of a mean loss is that of Newey and West (1987) over
2 h candles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from make_us_rich.database.outcomes import ScoredForecasts
from make_us_rich.documents import QUANTILE_NAMES
from make_us_rich.forecasting.evaluation import pinball, standard_error

BASELINE_NAMES = ("naive", "EWMA", "GARCH")
MIN_INDEPENDENT = 10
"""Fewer independent forecasts than these get a skill without a margin."""
Z_95 = 1.959964
"""The 97.5 % quantile of the normal distribution: 95 % lie between it and its negative."""
LOW, MEDIAN, HIGH = (QUANTILE_NAMES.index(name) for name in ("q10", "q50", "q90"))
"""The columns of the 80 % band and of its median."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """A share of n forecasts and its 95 % interval (Wilson 1927) with n / h independent ones."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class MeasuredSkill:
    """The fraction of a baseline's pinball loss that the forecasts saved. margin: 95 %, None for too few forecasts."""

    baseline: str
    value: float
    margin: float | None
    n: int


def inside_80(found: ScoredForecasts) -> NDArray[np.bool_]:
    """Return which closes lie inside the 80 % band, [n]."""
    inside: NDArray[np.bool_] = (found.close >= found.quantiles[:, LOW]) & (found.close <= found.quantiles[:, HIGH])
    return inside


def losses(found: ScoredForecasts, baseline: str) -> tuple[NDArray[np.bool_], Array, Array]:
    """Return which forecasts can be compared with a baseline, [n], and the k pinball losses of both, in log return.

    None can where the baseline never lost anything, because the price never moved.
    """
    theirs = found.baseline_losses[:, BASELINE_NAMES.index(baseline)]
    known = np.isfinite(theirs) & (np.nansum(theirs) > 0)
    quantiles, actual = np.log(found.quantiles / found.last_close[:, None]), np.log(found.close / found.last_close)
    return known, pinball(quantiles[known], actual[known]), theirs[known]


def skill(ours: Array, theirs: Array, *, horizon: int, baseline: str) -> MeasuredSkill:
    """Return the skill of losses [n] against those of a baseline, of forecasts `horizon` candles ahead, in order."""
    independent, mean = len(ours) / horizon, float(theirs.mean())
    margin = None
    if independent >= MIN_INDEPENDENT:
        error = standard_error(theirs - ours, horizon=horizon)
        margin = student_quantile(independent - 1) * error / mean
    return MeasuredSkill(baseline, 1 - float(ours.mean()) / mean, margin, len(ours))


def share(hits: NDArray[np.bool_], horizon: int) -> Share:
    """Return the share of hits [n] among forecasts `horizon` candles ahead."""
    n, value = len(hits) / horizon, float(hits.mean())
    centre = (value + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 * math.sqrt(value * (1 - value) / n + Z_95**2 / (4 * n**2)) / (1 + Z_95**2 / n)
    return Share(value, max(0.0, centre - half), min(1.0, centre + half), len(hits))


def student_quantile(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t, by Cornish and Fisher's expansion; exact to 1 % from 4 degrees on."""
    z = Z_95
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
