"""Baselines that every model is compared with. Each is fitted on past log returns and forecasts one step ahead.

past: [n], to fit on. upcoming: [m], the returns to forecast; forecast i uses upcoming[:i] at most. All return quantiles
[m, 7].
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from make_us_rich.documents import QUANTILE_LEVELS

Array = NDArray[np.float64]

_ROLLING = 720  # thirty days of hours
_DECAY = 0.94  # RiskMetrics 1996, of daily returns; see ewma
_PERCENT = 100.0  # the optimisers converge better on numbers near one
_SMOOTHING = 0.02  # half width of the rounded corner of the pinball loss, in percent


def naive(past: Array, upcoming: Array) -> Array:
    """Forecast a random walk: the last price, with the constant quantiles of the past around it."""
    return np.tile(np.quantile(past, QUANTILE_LEVELS), (len(upcoming), 1))


def rolling(past: Array, upcoming: Array) -> Array:
    """Forecast the quantiles of the last thirty days."""
    series = np.concatenate([past[-_ROLLING:], upcoming[:-1]])
    windows = np.lib.stride_tricks.sliding_window_view(series, min(_ROLLING, len(past)))
    levels: Array = np.quantile(windows, QUANTILE_LEVELS, axis=1).T
    return levels


def ewma(past: Array, upcoming: Array) -> Array:
    """Scale the past quantiles of standardised returns by an exponentially weighted volatility (RiskMetrics 1996)."""
    series = np.concatenate([past, upcoming])
    variance = _ewm_variance(series**2, intercept=0.0, shock=1 - _DECAY, decay=_DECAY, start=float((past**2).mean()))
    deviation = np.sqrt(variance)
    known = slice(_ROLLING, len(past)) if len(past) > 2 * _ROLLING else slice(0, len(past))
    shape = np.quantile(past[known] / deviation[known], QUANTILE_LEVELS)
    return deviation[len(past) :, None] * shape


def garch_t(past: Array, upcoming: Array) -> Array:
    """Forecast with a GARCH(1,1) with Student t innovations (Bollerslev 1987), fitted by `arch` on the past alone."""
    from arch import arch_model  # imports pandas and statsmodels, which training does not need

    model = arch_model(past * _PERCENT, mean="Constant", vol="GARCH", p=1, q=1, dist="t")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an optimiser that stops early: its best point is used
        mu, omega, alpha, beta, nu = model.fit(disp="off").params
    shocks = (np.concatenate([past, upcoming]) * _PERCENT - mu) ** 2
    variance = _ewm_variance(shocks, intercept=omega, shock=alpha, decay=beta, start=float(shocks[: len(past)].mean()))
    shape = model.distribution.ppf(np.array(QUANTILE_LEVELS), [nu])
    quantiles: Array = (mu + np.sqrt(variance[len(past) :])[:, None] * shape) / _PERCENT
    return quantiles


def linear_quantiles(regressors: Array, past: Array, upcoming: Array) -> Array:
    """Forecast with a linear quantile regression (Koenker and Bassett 1978) of the return on `regressors`, [n + m, k].

    Minimises the pinball loss with a rounded corner by L-BFGS: scikit-learn's QuantileRegressor reaches the same loss
    in forty to eighty times the time (docs/explanation/dependencies.md).
    """
    from sklearn.preprocessing import StandardScaler  # not imported above, because training does not need it

    known, target = regressors[: len(past)], torch.from_numpy(past * _PERCENT)
    scaler = StandardScaler().fit(known)

    def design(values: Array) -> Tensor:
        return torch.from_numpy(np.column_stack([np.ones(len(values)), scaler.transform(values)]))

    x, levels = design(known), torch.tensor(QUANTILE_LEVELS, dtype=torch.float64)
    weights = torch.zeros(x.shape[1], len(levels), dtype=torch.float64)
    weights[0] = torch.quantile(target, levels)
    weights.requires_grad_()
    optimiser = torch.optim.LBFGS([weights], max_iter=300, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        error = target.unsqueeze(1) - x @ weights
        size = error.abs()
        rounded = torch.where(size < _SMOOTHING, error**2 / (2 * _SMOOTHING) + _SMOOTHING / 2, size)
        total: Tensor = (0.5 * rounded + (levels - 0.5) * error).mean()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    design_upcoming = design(regressors[len(past) :])
    quantiles: Array = (design_upcoming @ weights.detach()).numpy() / _PERCENT
    return np.sort(quantiles, axis=1)


def _ewm_variance(shocks: Array, *, intercept: float, shock: float, decay: float, start: float) -> Array:
    """Return variance[i] = intercept + shock shocks[i-1] + decay variance[i-1]."""
    import pandas as pd

    driven = (intercept + shock * shocks[:-1]) / (1 - decay)
    mean = pd.Series(np.concatenate([[start], driven])).ewm(alpha=1 - decay, adjust=False).mean()
    variance: Array = mean.to_numpy()
    return variance
