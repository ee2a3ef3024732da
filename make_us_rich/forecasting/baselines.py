"""Baselines that every model is compared with: in a backtest, on the holdout of a training, and in the track record.

`baseline_forecasts` is the one definition of each: it is fitted once a UTC day on the PAST_CANDLES returns before the
day, and follows each candle that closed by the time of the forecast.

past: [n], returns of one candle, to fit on. upcoming: [m], those that follow; forecast i uses upcoming[:i] at most.
horizons: [k], candles ahead. All return quantiles of the log return until then, [m, k, 7].
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.market.breaks import breaks
from make_us_rich.market.candles import Candles

if TYPE_CHECKING:  # Airflow has no torch, and scores served forecasts against the other baselines
    from torch import Tensor

Array = NDArray[np.float64]

NAIVE, ROLLING, EWMA, GARCH = "naive", "rolling", "ewma", "garch_t"

PAST_CANDLES = 4320
"""The candles before a UTC day that the baselines of the day are fitted on: 180 days of hours.

On the windows for choosing they are stronger so than with 90 or 365 days (docs/explanation/forecasting.md).
"""

LEAST_PAST = {NAIVE: 48, ROLLING: 48, EWMA: 500, GARCH: 500}
"""The fewest returns that a baseline is fitted on: GARCH needs hundreds for its four parameters."""

_DAY_MS = 24 * HOUR_MS
_THIRTY_DAYS = 720  # of hours
_LEAST_ROLLING = 90  # candles, where thirty days have fewer
_DECAY = 0.94  # RiskMetrics 1996, of daily returns; see ewma
_PERCENT = 100.0  # the optimisers converge better on numbers near one
_SMOOTHING = 0.02  # half width of the rounded corner of the pinball loss, in standard deviations
_ITERATIONS = 300  # of L-BFGS
_PATHS = PAST_CANDLES  # simulated for each starting variance; each residual is drawn once for each candle ahead
_VARIANCES = 32  # starting variances that are simulated, evenly spaced in their logarithm
_CALMEST, _WILDEST = 1e-2, 4e2  # of them, in units of the median past variance


def baseline_forecasts(
    candles: Candles,
    step: int,
    as_of_ms: NDArray[np.int64],
    horizons: Sequence[int],
    names: Sequence[str],
    *,
    least: int | None = None,
) -> dict[str, Array]:
    """Forecast as of n times with the baselines of these names: {name: quantiles of the log return, [n, k, 7]}.

    candles: oldest first, with PAST_CANDLES before the day of the first time, or as many as there are; gaps count as
    flat. step: length of a candle in ms. A forecast uses candles that closed by its time, and its parameters are fitted
    on those that closed before its UTC day. It is NaN where fewer returns came before the day than LEAST_PAST says, or
    `least`; where the candles end before its time; and for EWMA and GARCH where none of the returns is a move.
    """
    found = {name: np.full((len(as_of_ms), len(horizons), len(QUANTILE_LEVELS)), np.nan) for name in names}
    if len(candles) == 0:
        return found
    first_ms = int(candles.open_time_ms[0])
    returns = np.diff(_filled_logs(candles, step))  # [k], the last one closes at first_ms + (k + 1) * step
    closed = (as_of_ms - first_ms) // step - 1  # how many returns a forecast may use
    at_start = (as_of_ms // _DAY_MS * _DAY_MS - first_ms) // step - 1  # and how many the fit of its day
    days = max(1, _DAY_MS // step)
    methods: dict[str, Callable[[Array, Array, Sequence[int]], Array]] = {
        NAIVE: naive,
        ROLLING: partial(rolling, window=max(_LEAST_ROLLING, 30 * days)),
        EWMA: ewma,
        GARCH: garch_t,
    }
    for start in np.unique(at_start).tolist():
        rows = np.flatnonzero((at_start == start) & (closed <= len(returns)))
        if start < 1 or not len(rows):
            continue
        past, since = returns[max(0, start - PAST_CANDLES) : start], closed[rows] - start
        upcoming = np.append(returns[start : start + int(since.max())], 0.0)  # no forecast uses the last one
        for name in names:
            enough = start >= (LEAST_PAST[name] if least is None else least)
            if enough and (past.any() or name in (NAIVE, ROLLING)):
                found[name][rows] = methods[name](past, upcoming, horizons)[since]
    return found


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
    """Forecast with GARCH(1,1) by filtered historical simulation (Barone-Adesi, Giannopoulos and Vosper 1999).

    The parameters are those of Bollerslev's model with Student t innovations (1987), fitted by `arch` on the past
    alone, with a mean of zero: the mean of past returns would be noise that grows with the horizon. The returns until a
    horizon are simulated candle by candle: the past residuals, divided by their deviation and centred, are drawn in
    random order, and each draw changes the variance of the next candle. The seed is fixed.
    """
    from arch import arch_model  # imports pandas and statsmodels, which training does not need

    model = arch_model(past * _PERCENT, mean="Zero", vol="GARCH", p=1, q=1, dist="t")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an optimiser that stops early: its best point is used
        omega, alpha, beta, _ = model.fit(disp="off").params
    shocks = np.concatenate([past, upcoming]) * _PERCENT
    variance = _ewm_variance(
        shocks**2, intercept=omega, shock=alpha, decay=beta, start=float((shocks[: len(past)] ** 2).mean())
    )
    before, now = variance[: len(past)], variance[len(past) :]
    residuals = shocks[: len(past)] / np.sqrt(before)
    simulated = _simulate(residuals - residuals.mean(), float(np.median(before)), (omega, alpha, beta), horizons)
    each = [np.sqrt(now)[:, None] * _at(now, *simulated, index) for index in range(len(horizons))]
    return np.stack(each, axis=1) / _PERCENT


def _simulate(
    residuals: Array, median: float, parameters: tuple[float, float, float], horizons: Sequence[int]
) -> tuple[Array, Array]:
    """Simulate the sum of coming returns for each of _VARIANCES starting variances.

    residuals: past ones with variance one. median: of the past variances. parameters: omega, alpha, beta. Returns
    (starting variances [v], quantiles of the sum divided by the starting deviation, [v, k, 7]).
    """
    omega, alpha, beta = parameters
    start = np.geomspace(_CALMEST * median, _WILDEST * median, _VARIANCES)
    random, drawn = np.random.default_rng(0), np.resize(residuals[-_PATHS:], _PATHS)
    variance = np.repeat(start[:, None], _PATHS, axis=1)
    total, each = np.zeros_like(variance), {}
    for candle in range(1, max(horizons) + 1):
        draws = random.permutation(drawn)
        total += np.sqrt(variance) * draws
        variance = omega + variance * (alpha * draws**2 + beta)
        if candle in horizons:
            each[candle] = np.quantile(total, QUANTILE_LEVELS, axis=1).T
    quantiles: Array = np.stack([each[horizon] for horizon in horizons], axis=1) / np.sqrt(start)[:, None, None]
    return start, quantiles


def _at(variance: Array, start: Array, quantiles: Array, index: int) -> Array:
    """Interpolate the quantiles of horizon number `index` at these variances, [m, 7]."""
    at, known = np.log(variance), np.log(start)
    return np.stack([np.interp(at, known, column) for column in quantiles[:, index].T], axis=1)


def linear_quantiles(regressors: Array, target: Array, deviation: Array) -> Array:
    """Forecast with a linear quantile regression (Koenker and Bassett 1978) of target / deviation on `regressors`.

    target: [n], past returns until one horizon, NaN where unknown. deviation: [n + m], the standard deviation of each
    that was forecast for it; without it the wildest hours decide the coefficients, and at 24 candles the regression is
    worse than naive. regressors: [n + m, k]. Returns [m, 7]. Minimises the pinball loss with a rounded corner by
    L-BFGS: scikit-learn's QuantileRegressor reaches the same loss in forty to eighty times the time
    (docs/explanation/dependencies.md).
    """
    import torch
    from sklearn.preprocessing import StandardScaler  # not imported above, because training does not need it

    known = np.flatnonzero(np.isfinite(target))
    fitted_on, returns = regressors[known], torch.from_numpy(target[known] / deviation[known])
    scaler = StandardScaler().fit(fitted_on)

    def design(values: Array) -> Tensor:
        return torch.from_numpy(np.column_stack([np.ones(len(values)), scaler.transform(values)]))

    x, levels = design(fitted_on), torch.tensor(QUANTILE_LEVELS, dtype=torch.float64)
    weights = torch.zeros(x.shape[1], len(levels), dtype=torch.float64)
    weights[0] = torch.quantile(returns, levels)
    weights.requires_grad_()
    optimiser = torch.optim.LBFGS([weights], max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        error = returns.unsqueeze(1) - x @ weights
        size = error.abs()
        rounded = torch.where(size < _SMOOTHING, error**2 / (2 * _SMOOTHING) + _SMOOTHING / 2, size)
        total: Tensor = (0.5 * rounded + (levels - 0.5) * error).mean()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    standardised = (design(regressors[len(target) :]) @ weights.detach()).numpy()
    quantiles: Array = np.sort(standardised, axis=1) * deviation[len(target) :, None]
    return quantiles


def _filled_logs(candles: Candles, step: int) -> Array:
    """Return the log closes of every candle between the first and the last; a missing one has the close before it.

    Across a break of the price the series continues without a move: the unit changed, not the value.
    """
    row = (candles.open_time_ms - candles.open_time_ms[0]) // step
    source = np.zeros(int(row[-1]) + 1, dtype=np.int64)
    source[row] = np.arange(len(candles))
    closes: Array = np.log(candles.close)
    for new in breaks(candles).tolist():
        closes[:new] += closes[new] - closes[new - 1]
    logs: Array = closes[np.maximum.accumulate(source)]
    return logs


def _sums(returns: Array, horizon: int) -> Array:
    """Return the sums of `horizon` neighbouring returns, [n - horizon + 1]."""
    totals = np.concatenate([[0.0], np.cumsum(returns)])
    sums: Array = totals[horizon:] - totals[:-horizon]
    return sums


def _ewm_variance(shocks: Array, *, intercept: float, shock: float, decay: float, start: float) -> Array:
    """Return variance[i] = intercept + shock shocks[i-1] + decay variance[i-1]."""
    driven = (intercept + shock * shocks[:-1]).tolist()
    return np.array(list(accumulate(driven, lambda before, new: new + decay * before, initial=start)))
