"""The scale of the next return: a log-HAR regression on ranges (Corsi 2009, Parkinson 1980)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class VolatilityFit:
    """ln sigma^2 = intercept + (static - mean) / deviation . weights."""

    mean: Tensor
    deviation: Tensor
    weights: Tensor
    intercept: Tensor


def fit_volatility(static: Tensor, target: Tensor) -> VolatilityFit:
    """Fit ln(target^2) on the static features by least squares, then scale so that target / sigma has variance 1.

    static: [n, features]; target: [n], log returns. The logarithm gives calm and volatile hours the same weight.
    """
    features = static.double()
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    x = (features - mean) / deviation
    # a floor of a hundredth of the typical size, because the logarithm of a return of 0 is infinite
    floor = 1e-2 * target.double().abs().median().clamp_min(1e-7)
    y = 2 * target.double().abs().clamp_min(floor).log()
    gram = x.T @ x / len(x) + _RIDGE * torch.eye(x.shape[1], dtype=torch.float64, device=x.device)
    weights = torch.linalg.solve(gram, x.T @ (y - y.mean()) / len(x))
    log_variance = y.mean() + x @ weights
    # the mean of a logarithm is below the logarithm of the mean
    z = target.double() / (0.5 * log_variance).exp()
    intercept = y.mean() + (z.clamp(-10, 10) ** 2).mean().log()
    return VolatilityFit(mean.float(), deviation.float(), weights.float(), intercept.float())
