"""Served forecasts of the past, as the replicas recorded them at the time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from psycopg2.extras import execute_values

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZONS
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.record import outcomes

BAND = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645]) * 0.01
"""Log quantiles of a normal return with a deviation of 1 %."""

_INSERT = """
INSERT INTO forecasts (market, pair, interval, target_open_ms, model_version, as_of_ms, last_close,
    q05, q10, q25, q50, q75, q90, q95, horizon_quantiles, made_at) VALUES %s
"""


def serve_forecasts(
    database: Database,
    pair: Pair,
    as_of_ms: Sequence[int],
    last_close: Sequence[float],
    *,
    version: int = 1,
    delay_s: int = 20,
    market: str = "binance",
    interval: Interval = Interval.H1,
    band: np.ndarray = BAND,
) -> None:
    """Record forecasts of all horizons, each `delay_s` after the close that it knew last.

    band: log quantiles of the next close, [7] or for each forecast, [n, 7]; they grow with the root of the horizon.
    """
    roots = np.sqrt(np.arange(1, HORIZONS + 1))[:, None]
    bands = np.broadcast_to(band, (len(as_of_ms), 7))
    rows = []
    for time_ms, price, own in zip(as_of_ms, last_close, bands, strict=True):
        prices = (price * np.exp(roots * own)).tolist()
        made_at = datetime.fromtimestamp(time_ms / 1000, UTC) + timedelta(seconds=delay_s)
        rows.append((market, pair, interval, time_ms, version, time_ms, price, *prices[0], prices, made_at))
    template = f"({', '.join(['%s'] * 14)}, %s::real[], %s)"
    with database.transaction() as cursor:
        execute_values(cursor, _INSERT, rows, template=template)


def record_live_weeks(
    database: Database, store: CandleStore, pair: Pair, as_of_ms: int, *, hours: int, market: str = "binance"
) -> np.ndarray:
    """Record a forecast each hour until `as_of_ms`, and their outcomes; returns the closes, oldest first.

    The volatility of the prices changes, and the forecasts know it, so that they beat the naive one.
    """
    random = np.random.default_rng(11)
    past = 1200
    deviation = 0.006 * np.exp(0.5 * np.sin(np.arange(past + hours) / 40) + 0.2 * random.standard_normal(past + hours))
    closes = 30_000 * np.exp(np.cumsum(deviation * random.standard_t(8, past + hours) * np.sqrt(6 / 8)))
    times = as_of_ms - 3_600_000 * np.arange(past + hours, 0, -1)
    store.write(market, pair, Interval.H1, Candles(times, closes, closes * 1.001, closes * 0.999, closes, deviation))
    served = slice(past - 1, None)
    bands = BAND * np.append(deviation, 0.006)[past:, None] / 0.01
    known = (times[served] + 3_600_000).tolist()
    serve_forecasts(database, pair, known, closes[served].tolist(), band=bands, market=market, version=4)
    outcomes.record(database, store, market=market, pair=pair, interval=Interval.H1, as_of_ms=as_of_ms)
    return closes
