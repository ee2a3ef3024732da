"""Writes what becomes an event, as the replicas and the pipeline do, and reads the table."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import events, forecasts
from make_us_rich.database.events import Event
from make_us_rich.database.pool import Database
from make_us_rich.documents import Quantiles

BITCOIN, ETHER = Pair("btc", "usdt"), Pair("eth", "usdt")
MARKET = "simulated"


def newest_close_ms(interval: Interval = Interval.H1) -> int:
    """Return the close that a forecast of now is as of."""
    return interval.last_close_ms(time.time_ns() // 1_000_000)


def record_forecast(
    database: Database,
    pair: Pair = BITCOIN,
    *,
    version: int = 1,
    as_of_ms: int | None = None,
    interval: Interval = Interval.H1,
    backfilled: bool = False,
    market: str = MARKET,
) -> int:
    """Record a forecast as a replica does, in time; returns the close that it is as of."""
    as_of_ms = newest_close_ms(interval) if as_of_ms is None else as_of_ms
    forecasts.record(
        database,
        [Quantiles.of([95.0 - h, 96.0, 98.0, 100.0, 102.0, 104.0, 105.0 + h]) for h in range(2)],
        market=market,
        pair=pair,
        interval=interval,
        as_of_ms=as_of_ms,
        version=version,
        last_close=100.0,
        backfilled=backfilled,
        made_at=datetime.fromtimestamp(as_of_ms / 1000 + 1, UTC),
    )
    return as_of_ms


def read_events(database: Database, after: int = 0) -> list[Event]:
    """Return the events after an id."""
    with database.transaction() as cursor:
        return events.after(cursor, after, market=MARKET, limit=10_000)
