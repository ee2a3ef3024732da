"""Baselines that every model is compared with. Each is fitted on past log returns and forecasts several horizons.

past: [n], returns of one candle, to fit on. upcoming: [m], those that follow; forecast i uses upcoming[:i] at most.
horizons: [k], candles ahead. All return quantiles of the log return until then, [m, k, 7].
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from make_us_rich.documents import QUANTILE_LEVELS

if TYPE_CHECKING:  # Airflow has no torch, and scores served forecasts against the other baselines
    from torch import Tensor

Array = NDArray[np.float64]

_THIRTY_DAYS = 720  # of hours
_DECAY = 0.94  # RiskMetrics 1996, of daily returns; see ewma
_PERCENT = 100.0  # the optimisers converge better on numbers near one
_SMOOTHING = 0.02  # half width of the rounded corner of the pinball loss, in percent


def naive(past: Array, upcoming: Array, horizons: Sequence[int] = (1,)) -> Array:
    """Forecast a random walk: the last price, with the constant quantiles of the past around it."""
    each = [np.quantile(_sums(past, horizon), QUANTILE_LEVELS) for horizon in horizons]
    quantiles = np.stack(each)
    return np.broadcast_to(quantiles, (len(upcoming), *quantiles.shape))  # takes no memory for each forecast


def rolling(past: Array, upcoming: Array, horizons: Sequence[int] = (1,), *, window: int = _THIRTY_DAYS) -> Array:
    """Forecast the quantiles of the last `window` candles."""
    series = np.concatenate([past[-window:], upcoming])
    length, each = min(window, len(past)), []
    for horizon in horizons:
        windows = np.lib.stride_tricks.sliding_window_view(_sums(series, horizon), length - horizon + 1)
        each.append(np.quantile(windows[: len(upcoming)], QUANTILE_LEVELS, axis=1).T)
    levels: Array = np.stack(each, axis=1)
    return levels


def ewma(past: Array, upcoming: Array, horizons: Sequence[int] = (1,)) -> Array:
    """Scale the past quantiles of standardised returns by an exponentially weighted volatility (RiskMetrics 1996).

    The volatility grows with the square root of the horizon.
    """
    series = np.concatenate([past, upcoming])
    variance = _ewm_variance(series**2, intercept=0.0, shock=1 - _DECAY, decay=_DECAY, start=float((past**2).mean()))
    deviation = np.sqrt(variance)
    first = _THIRTY_DAYS if len(past) > 2 * _THIRTY_DAYS else 0
    each = []
    for horizon in horizons:
        standardised = _sums(past, horizon)[first:] / deviation[first : len(past) - horizon + 1]
        each.append(deviation[len(past) :, None] * np.quantile(standardised, QUANTILE_LEVELS))
    return np.stack(each, axis=1)


def garch_t(past: Array, upcoming: Array, horizons: Sequence[int] = (1,)) -> Array:
    """Forecast with a GARCH(1,1) with Student t innovations (Bollerslev 1987), fitted by `arch` on the past alone.

    The variance until a horizon is the sum of the variances forecast for its candles.
    """
    from arch import arch_model  # imports pandas and statsmodels, which training does not need

    model = arch_model(past * _PERCENT, mean="Constant", vol="GARCH", p=1, q=1, dist="t")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an optimiser that stops early: its best point is used
        mu, omega, alpha, beta, nu = model.fit(disp="off").params
    shocks = (np.concatenate([past, upcoming]) * _PERCENT - mu) ** 2
    variance = _ewm_variance(shocks, intercept=omega, shock=alpha, decay=beta, start=float(shocks[: len(past)].mean()))
    shape = model.distribution.ppf(np.array(QUANTILE_LEVELS), [nu])
    each, ahead, total = {}, variance[len(past) :], np.zeros(len(upcoming))
    for candle in range(1, max(horizons) + 1):
        total = total + ahead
        ahead = omega + (alpha + beta) * ahead
        each[candle] = (candle * mu + np.sqrt(total)[:, None] * shape) / _PERCENT
    return np.stack([each[horizon] for horizon in horizons], axis=1)


def linear_quantiles(regressors: Array, target: Array) -> Array:
    """Forecast with a linear quantile regression (Koenker and Bassett 1978) of the target on `regressors`.

    target: [n], past returns until one horizon, NaN where unknown. regressors: [n + m, k]. Returns [m, 7].
    Minimises the pinball loss with a rounded corner by L-BFGS: scikit-learn's QuantileRegressor reaches the same loss
    in forty to eighty times the time (docs/explanation/dependencies.md).
    """
    import torch
    from sklearn.preprocessing import StandardScaler  # not imported above, because training does not need it

    known = np.flatnonzero(np.isfinite(target))
    fitted_on, returns = regressors[known], torch.from_numpy(target[known] * _PERCENT)
    scaler = StandardScaler().fit(fitted_on)

    def design(values: Array) -> Tensor:
        return torch.from_numpy(np.column_stack([np.ones(len(values)), scaler.transform(values)]))

    x, levels = design(fitted_on), torch.tensor(QUANTILE_LEVELS, dtype=torch.float64)
    weights = torch.zeros(x.shape[1], len(levels), dtype=torch.float64)
    weights[0] = torch.quantile(returns, levels)
    weights.requires_grad_()
    optimiser = torch.optim.LBFGS([weights], max_iter=300, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        error = returns.unsqueeze(1) - x @ weights
        size = error.abs()
        rounded = torch.where(size < _SMOOTHING, error**2 / (2 * _SMOOTHING) + _SMOOTHING / 2, size)
        total: Tensor = (0.5 * rounded + (levels - 0.5) * error).mean()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    quantiles: Array = (design(regressors[len(target) :]) @ weights.detach()).numpy() / _PERCENT
    return np.sort(quantiles, axis=1)


def _sums(returns: Array, horizon: int) -> Array:
    """Return the sums of `horizon` neighbouring returns, [n - horizon + 1]."""
    totals = np.concatenate([[0.0], np.cumsum(returns)])
    sums: Array = totals[horizon:] - totals[:-horizon]
    return sums


def _ewm_variance(shocks: Array, *, intercept: float, shock: float, decay: float, start: float) -> Array:
    """Return variance[i] = intercept + shock shocks[i-1] + decay variance[i-1]."""
    driven = (intercept + shock * shocks[:-1]).tolist()
    return np.array(list(accumulate(driven, lambda before, new: new + decay * before, initial=start)))
