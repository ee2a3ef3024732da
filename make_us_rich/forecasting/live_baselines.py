"""The baselines of a served forecast: their losses, computed point in time, and the forecast of now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.documents import HORIZON_GRID
from make_us_rich.forecasting.baselines import EWMA, GARCH, LEAST_PAST, NAIVE, baseline_forecasts
from make_us_rich.forecasting.evaluation import pinball
from make_us_rich.market.candles import Candles

BASELINES = (NAIVE, EWMA, GARCH)

_DAY_MS = 24 * HOUR_MS

Array = NDArray[np.float64]


def baseline_losses(candles: Candles, step: int, as_of_ms: NDArray[np.int64], actual: Array) -> Array:
    """Return the pinball losses of BASELINES, [n, G, 3], for forecasts as of n times at the G horizons of HORIZON_GRID.

    candles: oldest first, with PAST_CANDLES before the day of the first time. step: length of a candle in ms. actual:
    [n, G], log returns until each target, NaN where unknown. All three are NaN where one of them has no forecast: see
    `baseline_forecasts`.
    """
    forecasts = baseline_forecasts(candles, step, as_of_ms, HORIZON_GRID, BASELINES)
    losses = np.stack([pinball(forecasts[name], actual) for name in BASELINES], axis=-1)
    losses[np.isnan(losses).any(axis=-1)] = np.nan
    return losses


def candles_needed(name: str, step: int) -> int:
    """Return how many candles of `step` ms are enough for a baseline's `newest_forecast` at any time of day."""
    return LEAST_PAST[name] + _DAY_MS // step + 1


def newest_forecast(name: str, candles: Candles, step: int, horizons: Sequence[int]) -> Array:
    """Return a baseline's quantiles [k, 7] of the log returns after the last candle: those that are scored.

    Raises NotEnoughHistory where it has no forecast.
    """
    as_of_ms = candles.open_time_ms[-1:] + step
    newest: Array = baseline_forecasts(candles, step, as_of_ms, horizons, [name])[name][0]
    if np.isnan(newest).any():
        before = int((candles.open_time_ms < as_of_ms // _DAY_MS * _DAY_MS).sum())
        raise NotEnoughHistory(
            f"{name} needs {LEAST_PAST[name]} returns before today, of a price that moved: "
            f"there are {max(0, before - 1)}"
        )
    return newest
