"""The baselines of a served forecast: their losses, computed point in time, and the EWMA forecast of now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.documents import HORIZON_GRID
from make_us_rich.forecasting.baselines import ewma, garch_t, naive
from make_us_rich.forecasting.evaluation import pinball
from make_us_rich.market.breaks import breaks
from make_us_rich.market.candles import Candles

BASELINES = ("naive", "ewma", "garch")
PAST_CANDLES = 2160
"""The candles before a day that the baselines of the day are fitted on: 90 days of hours."""

_MIN_PAST = 500  # GARCH needs hundreds of returns for its four parameters
_DAY_MS = 24 * HOUR_MS

Array = NDArray[np.float64]


def baseline_losses(candles: Candles, step: int, as_of_ms: NDArray[np.int64], actual: Array) -> Array:
    """Return the pinball losses of BASELINES, [n, G, 3], for forecasts as of n times at the G horizons of HORIZON_GRID.

    candles: oldest first, with PAST_CANDLES before the day of the first time; gaps count as flat. step: length of a
    candle in ms. actual: [n, G], log returns until each target, NaN where unknown. The parameters are fitted once a
    UTC day, on candles closed before the day; the variances follow each candle closed by the forecast's time. NaN
    where fewer than 500 candles came before, or where their price never moved.
    """
    losses = np.full((*actual.shape, len(BASELINES)), np.nan)
    if len(candles) == 0:
        return losses
    first_ms = int(candles.open_time_ms[0])
    returns = np.diff(_filled_logs(candles, step))  # [k], the last one closes at first_ms + (k + 1) * step
    closed = (as_of_ms - first_ms) // step - 1  # how many returns a forecast may use
    at_start = (as_of_ms // _DAY_MS * _DAY_MS - first_ms) // step - 1  # and how many the fit of its day
    for start in np.unique(at_start).tolist():
        past = _to_fit_on(returns, start)
        rows = np.flatnonzero((at_start == start) & (closed <= len(returns)))
        if past is None or not len(rows):
            continue
        since = closed[rows] - start
        upcoming = np.append(returns[start : start + int(since.max())], 0.0)  # no forecast uses the last one
        for column, forecast in enumerate((naive, ewma, garch_t)):
            losses[rows, :, column] = pinball(forecast(past, upcoming, HORIZON_GRID)[since], actual[rows])
    return losses


def ewma_forecast(candles: Candles, step: int, horizons: Sequence[int]) -> Array:
    """Return the EWMA quantiles [k, 7] of the log returns after the last candle: those that `baseline_losses` scores.

    Raises NotEnoughHistory where that has no loss.
    """
    returns = np.diff(_filled_logs(candles, step))
    as_of_ms = int(candles.open_time_ms[-1]) + step
    start = len(returns) - as_of_ms % _DAY_MS // step
    past = _to_fit_on(returns, start)
    if past is None:
        raise NotEnoughHistory(
            f"EWMA needs {_MIN_PAST} returns without a gap before today, of a price that moved: "
            f"there are {max(0, start)}"
        )
    newest: Array = ewma(past, np.append(returns[start:], 0.0), horizons)[-1]
    return newest


def _to_fit_on(returns: Array, start: int) -> Array | None:
    """Return the returns that the day is fitted on whose first one is returns[start]; None where they are no use."""
    if start < _MIN_PAST:
        return None
    past = returns[max(0, start - PAST_CANDLES) : start]
    return past if past.any() else None


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
