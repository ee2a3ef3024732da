"""Store the outcome of each served forecast, with the losses of the baselines as of the same time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import outcomes
from make_us_rich.database.outcomes import Outcome, Pending
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, SCORED_CANDLES
from make_us_rich.forecasting.live_baselines import PAST_CANDLES, baseline_losses
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles

_AT_ONCE = 2000  # forecasts a run; a longer backlog, as after an upgrade, takes several runs
_DAY_MS = 86_400_000

Array = NDArray[np.float64]


def record(
    database: Database, store: CandleStore, *, market: str, pair: Pair, interval: Interval, as_of_ms: int
) -> int:
    """Store what is known at `as_of_ms` of the outcomes of served forecasts; returns how many forecasts gained one.

    What is stored already stays as it was stored first. A horizon whose candle is missing is tried again for 168
    candles after the longest one's target.
    """
    waiting = outcomes.pending(database, market=market, pair=pair, interval=interval, as_of_ms=as_of_ms, limit=_AT_ONCE)
    if not waiting:
        return 0
    step = interval.ms
    first_day_ms = waiting[0].as_of_ms // _DAY_MS * _DAY_MS
    candles = store.read(market, pair, interval, first_day_ms - (PAST_CANDLES + 1) * step, as_of_ms)
    times = np.array([each.as_of_ms for each in waiting])
    closes = _closes_at(candles, times[:, None] + (np.array(HORIZON_GRID) - 1) * step)
    closes[np.array([each.horizons for each in waiting])[:, None] < np.array(HORIZON_GRID)] = np.nan
    actual = np.log(closes / np.array([each.last_close for each in waiting])[:, None])
    losses = baseline_losses(candles, step, times, actual)
    too_old_ms = as_of_ms - (HORIZON_GRID[-1] + SCORED_CANDLES) * step
    found = [
        _merged(old, closes[row], losses[row].T, too_old_ms=too_old_ms)
        for row, old in enumerate(waiting)
        if np.isfinite(closes[row]).any() or old.as_of_ms < too_old_ms
    ]
    if found:
        outcomes.save(database, found)
    return len(found)


def _closes_at(candles: Candles, open_ms: NDArray[np.int64]) -> Array:
    """Return the closes of the candles that opened at these times; NaN where there is no such candle."""
    closes = np.full(open_ms.shape, np.nan)
    if len(candles):
        row = np.searchsorted(candles.open_time_ms, open_ms).clip(max=len(candles) - 1)
        exists = candles.open_time_ms[row] == open_ms
        closes[exists] = candles.close[row[exists]]
    return closes


def _merged(old: Pending, closes: Array, losses: Array, *, too_old_ms: int) -> Outcome:
    """Add new values to those that are stored. closes: [G]; losses: [3, G]."""
    known = np.isfinite(old.closes)
    kept_closes = np.where(known, old.closes, closes)
    expected = np.array(HORIZON_GRID) <= old.horizons
    return Outcome(
        old.forecast_id,
        kept_closes.tolist(),
        _where(known, old.losses, losses),
        complete=bool(np.isfinite(kept_closes[expected]).all()) or old.as_of_ms < too_old_ms,
    )


def _where(known: NDArray[np.bool_], old: Sequence[Sequence[float]], new: Array) -> list[list[float]]:
    merged: list[list[float]] = np.where(known, np.array(old), new).tolist()
    return merged
