"""Store the outcome of each served forecast: at every horizon the actual close and the losses of the baselines."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import outcomes
from make_us_rich.database.outcomes import AtHorizon, Outcome, Pending
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, SCORED_CANDLES
from make_us_rich.forecasting.baselines import PAST_CANDLES
from make_us_rich.forecasting.live_baselines import baseline_losses
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles

_AT_ONCE = 2000  # forecasts a run; a longer backlog, as after an upgrade, takes several runs
_DAY_MS = 86_400_000

Array = NDArray[np.float64]


def record(
    database: Database, store: CandleStore, *, market: str, pair: Pair, interval: Interval, as_of_ms: int
) -> int:
    """Store what is known at `as_of_ms` of the outcomes of served forecasts; returns how many rows were written.

    A close that is stored stays as it was stored first. A target whose candle is missing is tried again until 168
    candles after the longest horizon.
    """
    waiting = outcomes.pending(database, market=market, pair=pair, interval=interval, as_of_ms=as_of_ms, limit=_AT_ONCE)
    if not waiting:
        return 0
    step = interval.ms
    first_day_ms = waiting[0].as_of_ms // _DAY_MS * _DAY_MS
    candles = store.read(market, pair, interval, first_day_ms - (PAST_CANDLES + 1) * step, as_of_ms)
    times = np.array([each.as_of_ms for each in waiting])
    targets = times[:, None] + (np.array(HORIZON_GRID) - 1) * step  # when the candles of the targets opened
    closes = _closes_at(candles, targets)
    actual = np.log(closes / np.array([each.last_close for each in waiting])[:, None])
    values = np.dstack([closes, baseline_losses(candles, step, times, actual)])
    passed = targets <= (candles.open_time_ms[-1] if len(candles) else 0)
    too_old_ms = as_of_ms - (HORIZON_GRID[-1] + SCORED_CANDLES) * step
    found = [
        _outcome(each, values[row], passed[row], is_too_old=each.as_of_ms < too_old_ms)
        for row, each in enumerate(waiting)
    ]
    written = [each for each in found if each.at or each.complete]
    if written:
        outcomes.save(database, written)
    return len(written)


def _closes_at(candles: Candles, open_ms: NDArray[np.int64]) -> Array:
    """Return the closes of the candles that opened at these times; NaN where there is no such candle."""
    closes = np.full(open_ms.shape, np.nan)
    if len(candles):
        row = np.searchsorted(candles.open_time_ms, open_ms).clip(max=len(candles) - 1)
        exists = candles.open_time_ms[row] == open_ms
        closes[exists] = candles.close[row[exists]]
    return closes


def _outcome(forecast: Pending, values: Array, passed: NDArray[np.bool_], *, is_too_old: bool) -> Outcome:
    """Add the new values to those that are stored. values: [G, 4] at HORIZON_GRID, in the order of AtHorizon."""
    wanted = [horizon for horizon in HORIZON_GRID if horizon <= forecast.ahead]
    found = zip(wanted, values.tolist(), passed.tolist(), strict=False)
    at = {horizon: AtHorizon(*row) for horizon, row, has_passed in found if has_passed}
    at |= {horizon: each for horizon, each in forecast.stored.items() if math.isfinite(each.close)}
    is_known = all(horizon in at and math.isfinite(at[horizon].close) for horizon in wanted)
    return Outcome(forecast.forecast_id, at, complete=is_known or is_too_old)
