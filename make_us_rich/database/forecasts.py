"""The table `forecasts`: what was forecast for each candle, by the model that served or that a backfill trained.

The view `served_forecasts` holds those that were served: of no backfill, and recorded before their close.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.database import events
from make_us_rich.database.pool import Database
from make_us_rich.documents import QUANTILE_NAMES, PastForecast, Quantiles

_COLUMNS = (
    "market",
    "pair",
    "interval",
    "target_open_ms",
    "model_version",
    "foundation",
    "backfilled",
    "as_of_ms",
    "last_close",
    "made_at",
    *QUANTILE_NAMES,
    "horizon_quantiles",
)
_INSERT = f"""
INSERT INTO forecasts ({", ".join(_COLUMNS)}) VALUES ({", ".join(["%s"] * (len(_COLUMNS) - 1))}, %s::real[])
ON CONFLICT DO NOTHING RETURNING forecast_id
"""
# When two models forecast the same candle, the first one's counts, as in the outcomes. A backfill's nobody was served.
_SELECT_PAST = """
SELECT DISTINCT ON (target_open_ms) target_open_ms, model_version, foundation, backfilled, last_close,
    horizon_quantiles[%(horizon)s:%(horizon)s]
FROM (SELECT * FROM served_forecasts UNION ALL SELECT * FROM forecasts WHERE backfilled) AS forecasts
WHERE market = %(market)s AND pair = %(pair)s AND interval = %(interval)s
AND target_open_ms <= %(last_ms)s AND array_length(horizon_quantiles, 1) >= %(horizon)s
ORDER BY target_open_ms DESC, backfilled, made_at, forecast_id LIMIT %(limit)s
"""
_SELECT_FIRST = """
SELECT DISTINCT ON (target_open_ms) target_open_ms, last_close, horizon_quantiles
FROM served_forecasts WHERE market = %s AND pair = %s AND interval = %s AND target_open_ms BETWEEN %s AND %s
ORDER BY target_open_ms, made_at, forecast_id
"""
_SELECT_LAST = """
SELECT target_open_ms, last_close, horizon_quantiles
FROM served_forecasts WHERE market = %s AND pair = %s AND interval = %s AND target_open_ms = %s
ORDER BY made_at DESC, forecast_id DESC LIMIT 1
"""
_SELECT_VERSIONS = """
SELECT model_version, foundation FROM served_forecasts
WHERE market = %s AND pair = %s AND interval = %s AND target_open_ms = %s ORDER BY forecast_id
"""
_SELECT_SERVED = """
SELECT asked_pair, asked_interval
FROM unnest(%(pairs)s::text[]) AS asked_pair, unnest(%(intervals)s::text[]) AS asked_interval
WHERE EXISTS (
    SELECT FROM served_forecasts WHERE market = %(market)s AND pair = asked_pair AND interval = asked_interval
    AND target_open_ms >= %(first_ms)s
)
"""
_SELECT_CLOSES = """
SELECT DISTINCT ON (pair, target_open_ms) pair, target_open_ms, last_close
FROM forecasts WHERE market = %s AND pair = ANY(%s) AND interval = %s AND target_open_ms >= %s
ORDER BY pair, target_open_ms, forecast_id
"""


@dataclass(frozen=True)
class ServedForecast:
    """A forecast that was served as of a time. `prices`: quantiles [horizons][7], the next close first."""

    as_of_ms: int
    last_close: float
    prices: list[list[float]]


def record(
    database: Database,
    horizons: Sequence[Quantiles],
    *,
    market: str,
    pair: Pair,
    interval: Interval,
    as_of_ms: int,
    version: int,
    last_close: float,
    foundation: bool = False,
    backfilled: bool = False,
    made_at: datetime | None = None,
) -> bool:
    """Record the forecast that was made as of `as_of_ms`, and its event; a repeated record changes nothing.

    Returns False, and records nothing, when the close that it forecasts first has come: nobody can tell then that the
    forecast was made without knowing it. That does not hold for a backfill's. `made_at`: now, unless it is given.

    `horizons`: the quantiles of the next close, then of the closes after it. `foundation`: `version` is one of the
    foundation model, not of the pair's own. `backfilled`: made afterwards, so nobody was served it, and it
    is no event. Raises psycopg2.Error.
    """
    row = (market, pair, interval, as_of_ms, version, foundation, backfilled, as_of_ms, last_close)
    with database.transaction() as cursor:
        cursor.execute("SELECT coalesce(%s, now())", (made_at,))
        (recorded_at,) = cursor.fetchone()
        if not backfilled and recorded_at.timestamp() * 1000 >= as_of_ms + interval.ms:
            return False
        cursor.execute(_INSERT, (*row, recorded_at, *horizons[0].prices(), [each.prices() for each in horizons]))
        added = cursor.fetchone()
        if added and not backfilled:
            payload = {"forecast_id": added[0]}
            events.add(cursor, "forecast", market=market, pair=pair, interval=interval, payload=payload)
    return True


def past(
    database: Database, *, market: str, pair: Pair, interval: Interval, closed_by_ms: int, limit: int, horizon: int = 1
) -> list[PastForecast]:
    """Return the newest forecasts, `horizon` candles ahead, of closes at or before `closed_by_ms`, without outcomes.

    Newest first. Of several models that made one forecast, the first one's is returned, which counts in the outcomes
    too, a backfill's only where none was served; forecasts by models without this horizon are left out. Raises
    psycopg2.Error.
    """
    values = {"market": market, "pair": pair, "interval": interval, "horizon": horizon, "limit": limit}
    values |= {"last_ms": closed_by_ms - horizon * interval.ms}
    with database.transaction() as cursor:
        cursor.execute(_SELECT_PAST, values)
        rows = cursor.fetchall()
    return [
        PastForecast(
            horizon=horizon,
            target_open_ms=as_of_ms + (horizon - 1) * interval.ms,
            target_close_ms=as_of_ms + horizon * interval.ms,
            model_version=version,
            foundation=foundation,
            backfilled=backfilled,
            last_close=last_close,
            quantiles=Quantiles.of(prices),
            close=None,
            inside_80=None,
        )
        for as_of_ms, version, foundation, backfilled, last_close, (prices,) in rows
    ]


def first_as_of_each_time(
    database: Database, *, market: str, pair: Pair, interval: Interval, first_ms: int, last_ms: int
) -> list[ServedForecast]:
    """Return what was served first as of each close between two times, oldest first. Raises psycopg2.Error."""
    with database.transaction() as cursor:
        cursor.execute(_SELECT_FIRST, (market, pair, interval, first_ms, last_ms))
        return [ServedForecast(*row) for row in cursor.fetchall()]


def last_as_of(
    database: Database, *, market: str, pair: Pair, interval: Interval, as_of_ms: int
) -> ServedForecast | None:
    """Return what was served last as of a close: another model may have replaced the first. Raises psycopg2.Error."""
    with database.transaction() as cursor:
        cursor.execute(_SELECT_LAST, (market, pair, interval, as_of_ms))
        row = cursor.fetchone()
        return ServedForecast(*row) if row else None


def served_versions(
    database: Database, *, market: str, pair: Pair, interval: Interval, as_of_ms: int
) -> list[tuple[int, bool]]:
    """Return the versions whose forecasts as of a close were served, the first one first. Raises psycopg2.Error.

    Each with True when it is one of the foundation model.
    """
    with database.transaction() as cursor:
        cursor.execute(_SELECT_VERSIONS, (market, pair, interval, as_of_ms))
        return [(version, foundation) for version, foundation in cursor.fetchall()]


def served_since(
    database: Database, *, market: str, pairs: Collection[Pair], intervals: Collection[Interval], first_ms: int
) -> set[Series]:
    """Return the series of which a forecast as of `first_ms` or later was served. Raises psycopg2.Error."""
    values = {"market": market, "pairs": list(map(str, pairs)), "intervals": list(map(str, intervals))}
    with database.transaction() as cursor:
        cursor.execute(_SELECT_SERVED, values | {"first_ms": first_ms})
        return {Series(Pair.parse(pair), Interval.parse(interval)) for pair, interval in cursor.fetchall()}


def last_closes(
    database: Database, *, market: str, pairs: Sequence[Pair], interval: Interval, first_ms: int
) -> dict[Pair, list[tuple[int, float]]]:
    """Return by pair the closes that its forecasts since `first_ms` began with: (time in ms, price), oldest first.

    A pair without one is left out, and so is a close that nothing was forecast from. Raises psycopg2.Error.
    """
    found: dict[Pair, list[tuple[int, float]]] = {}
    with database.transaction() as cursor:
        cursor.execute(_SELECT_CLOSES, (market, [str(pair) for pair in pairs], interval, first_ms))
        for pair, as_of_ms, close in cursor.fetchall():
            found.setdefault(Pair.parse(pair), []).append((as_of_ms, close))
    return found
