"""The table `events`: what happened, in an order in which no reader misses anything.

Ids of an identity column are given out before the commit, so without care a reader could see id 5, and id 4 only later.
Here each transaction that adds events holds one advisory lock from its first id to its end. It takes the lock last, so
that it holds it for a moment only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg2.extras import Json

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database.forecast_logs import LoggedForecast
from make_us_rich.database.pool import Database

EventKind = Literal["forecast", "outcome", "model", "stale"]

CHANNEL = "events"
"""Of NOTIFY, whose payload is the newest id."""

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('events', 0))"
_COLUMNS = "market, kind, pair, interval, payload"
_ADD = f"""
WITH added AS (INSERT INTO events ({_COLUMNS}) {{rows}} RETURNING event_id)
SELECT pg_notify('{CHANNEL}', max(event_id)::text) FROM added HAVING count(*) > 0
"""
_ONE = "SELECT %(market)s, %(kind)s, %(pair)s, %(interval)s, %(payload)s::jsonb"
_CHAMPION = """
SELECT %(market)s, 'model', %(pair)s, %(interval)s, %(payload)s::jsonb WHERE %(version)s IS DISTINCT FROM (
    SELECT (payload->>'version')::int FROM events
    WHERE market = %(market)s AND pair = %(pair)s AND interval = %(interval)s AND kind = 'model'
    ORDER BY event_id DESC LIMIT 1
)
"""
_OUTCOMES = """
SELECT market, 'outcome', pair, interval, jsonb_build_object('forecast_id', forecast_id, 'close', closes[1])
FROM forecasts JOIN outcomes USING (forecast_id)
WHERE forecast_id = ANY(%(forecast_ids)s) AND closes[1] <> 'NaN' ORDER BY target_open_ms, forecast_id
"""
# A pair that stops its process when nobody asks has no forecast of each candle.
_STALE = """
SELECT %(market)s, 'stale', pair, %(interval)s, jsonb_build_object('as_of_ms', as_of_ms)
FROM (
    SELECT pair, (
        SELECT max(target_open_ms) FROM served_forecasts
        WHERE market = %(market)s AND pair = pairs.pair AND interval = %(interval)s
    ) AS as_of_ms
    FROM pairs WHERE parked_at IS NULL AND (plan = 'pooled' OR (plan = 'dedicated' AND min_replicas > 0))
    AND changed_at < to_timestamp(%(close_ms)s / 1000.0)
) AS newest
WHERE as_of_ms < %(close_ms)s AND NOT EXISTS (
    SELECT FROM events WHERE market = %(market)s AND pair = newest.pair AND interval = %(interval)s
    AND kind = 'stale' AND (payload->>'as_of_ms')::bigint = newest.as_of_ms
)
ORDER BY pair
"""
_AFTER = """
SELECT event_id, at, kind, pair, interval, payload, as_of_ms, made_at, model_version, foundation, last_close,
    horizon_quantiles
FROM (SELECT * FROM events WHERE event_id > %s AND market = %s ORDER BY event_id LIMIT %s) AS chosen
LEFT JOIN LATERAL (
    SELECT as_of_ms, made_at, model_version, foundation, last_close, horizon_quantiles
    FROM forecasts WHERE forecast_id = (chosen.payload->>'forecast_id')::bigint
) AS forecast ON true
ORDER BY event_id
"""


@dataclass(frozen=True)
class Event:
    """A row of the table. forecast: of a `forecast` or `outcome`; None where housekeeping has deleted it."""

    event_id: int
    at: datetime
    kind: EventKind
    pair: Pair
    interval: Interval
    payload: Mapping[str, Any]
    forecast: LoggedForecast | None


def add(
    cursor: Any, kind: EventKind, *, market: str, pair: Pair, interval: Interval, payload: Mapping[str, object]
) -> None:
    """Add an event to the transaction of a row. Call it last: it takes the lock of all events until the commit."""
    values = {"market": market, "kind": kind, "pair": pair, "interval": interval, "payload": Json(payload)}
    _execute(cursor, _ONE, values)


def add_outcomes(cursor: Any, forecast_ids: Collection[int]) -> None:
    """Add an event for each of these forecasts whose next close is stored, to the transaction that stored it."""
    if forecast_ids:
        _execute(cursor, _OUTCOMES, {"forecast_ids": list(forecast_ids)})


def record_champion(
    database: Database, *, market: str, pair: Pair, interval: Interval, version: int, previous: int | None
) -> None:
    """Record that a version became the champion of a pair, unless the pair's newest event says so already.

    So a promotion that was interrupted after it moved the alias can record it when it is repeated.
    """
    payload = {"version": version, "previous": previous}
    values = {"market": market, "pair": pair, "interval": interval, "version": version, "payload": Json(payload)}
    with database.transaction() as cursor:
        _execute(cursor, _CHAMPION, values)


def record_stale(database: Database, *, market: str, interval: Interval, close_ms: int) -> None:
    """Record each active pair whose newest forecast is older than `close_ms`, once for each such forecast.

    Leaves out pairs that were never forecast, that changed since then, and that may be scaled to zero.
    """
    with database.transaction() as cursor:
        _execute(cursor, _STALE, {"market": market, "interval": interval, "close_ms": close_ms})


def _execute(cursor: Any, rows: str, values: Mapping[str, object]) -> None:
    """Insert what the statement `rows` selects, and notify. The lock is a statement of its own, before any id."""
    cursor.execute(_LOCK)
    cursor.execute(_ADD.format(rows=rows), values)


def bounds(cursor: Any) -> tuple[int, int]:
    """Return the oldest and the newest id that are kept; 0 and 0 when nothing has happened yet."""
    cursor.execute("SELECT coalesce(min(event_id), 0), coalesce(max(event_id), 0) FROM events")
    oldest, newest = cursor.fetchone()
    return oldest, newest


def after(cursor: Any, event_id: int, *, market: str, limit: int) -> list[Event]:
    """Return the first `limit` events of a market after an id, oldest first."""
    cursor.execute(_AFTER, (event_id, market, limit))
    return [_from_row(row) for row in cursor.fetchall()]


def _from_row(row: Sequence[Any]) -> Event:
    event_id, at, kind, name, length, payload, as_of_ms, *forecast = row
    pair, interval = Pair.parse(name), Interval(length)
    known = None if as_of_ms is None else LoggedForecast(pair, interval, as_of_ms, *forecast)
    return Event(event_id, at, kind, pair, interval, payload, known)
