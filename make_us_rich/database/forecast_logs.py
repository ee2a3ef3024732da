"""The table `forecast_logs`: the file of each day's live forecasts, with its hashes."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database.pool import Database

_TIMEOUT_S = 30.0
_DAYS = "day, forecasts, csv_sha256, parquet_sha256, previous, chain, published_at"
_SELECT_LIVE = """
SELECT pair, interval, as_of_ms, made_at, model_version, foundation, last_close, horizon_quantiles
FROM served_forecasts WHERE market = %s AND made_at >= %s AND made_at < %s
ORDER BY made_at, forecast_id
"""


@dataclass(frozen=True)
class LoggedForecast:
    """A recorded forecast. prices: quantiles [horizons][7], the next close first."""

    pair: Pair
    interval: Interval
    as_of_ms: int
    made_at: datetime
    version: int
    foundation: bool
    last_close: float
    prices: list[list[float]]


@dataclass(frozen=True)
class LogDay:
    """A published day. chain: `chained` of the other hashes; previous: the chain of the day before, or empty."""

    day: date
    forecasts: int
    csv_sha256: str
    parquet_sha256: str
    previous: str
    chain: str
    published_at: datetime


def chained(previous: str, day: date, csv_sha256: str, parquet_sha256: str) -> str:
    """Return the hash of a day and of the chain before it."""
    return hashlib.sha256(f"{previous} {day} {csv_sha256} {parquet_sha256}".encode()).hexdigest()


def first_live_day(database: Database, market: str) -> date | None:
    """Return the UTC day of the first live forecast; None without any."""
    with database.transaction(timeout_s=_TIMEOUT_S) as cursor:
        cursor.execute("SELECT min(made_at) FROM served_forecasts WHERE market = %s", (market,))
        (first,) = cursor.fetchone()
    return first.astimezone(UTC).date() if first else None


def live_forecasts(database: Database, market: str, day: date) -> list[LoggedForecast]:
    """Return the forecasts that were recorded live on a UTC day, in the order of their recording."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    with database.transaction(timeout_s=_TIMEOUT_S) as cursor:
        cursor.execute(_SELECT_LIVE, (market, begin, begin + timedelta(days=1)))
        return [
            LoggedForecast(Pair.parse(pair), Interval(interval), *rest) for pair, interval, *rest in cursor.fetchall()
        ]


def append(database: Database, market: str, day: date, *, forecasts: int, csv: bytes, parquet: bytes) -> LogDay:
    """Publish the files of a day after the newest one. A day that is published already cannot be published again."""
    hashes = [hashlib.sha256(content).hexdigest() for content in (csv, parquet)]
    last = newest(database, market)
    previous = last.chain if last else ""
    values = (forecasts, *hashes, previous, chained(previous, day, *hashes), gzip.compress(csv, mtime=0), parquet)
    with database.transaction(timeout_s=_TIMEOUT_S) as cursor:
        cursor.execute(
            "INSERT INTO forecast_logs (market, day, forecasts, csv_sha256, parquet_sha256, previous, chain, csv,"
            f" parquet) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING {_DAYS}",
            (market, day, *values),
        )
        return LogDay(*cursor.fetchone())


def newest(database: Database, market: str) -> LogDay | None:
    """Return the day that was published last; None without any."""
    found = published(database, market, limit=1)
    return found[0] if found else None


def published(database: Database, market: str, *, limit: int | None = None) -> list[LogDay]:
    """Return the published days, the newest first."""
    with database.transaction() as cursor:
        cursor.execute(
            f"SELECT {_DAYS} FROM forecast_logs WHERE market = %s ORDER BY day DESC LIMIT %s", (market, limit)
        )
        return [LogDay(*row) for row in cursor.fetchall()]


def content(database: Database, market: str, day: date, kind: str) -> bytes | None:
    """Return a published file; None if there is none of this day. kind: csv or parquet."""
    column = {"csv": "csv", "parquet": "parquet"}[kind]
    with database.transaction() as cursor:
        cursor.execute(f"SELECT {column} FROM forecast_logs WHERE market = %s AND day = %s", (market, day))
        row = cursor.fetchone()
    if row is None:
        return None
    return gzip.decompress(row[0]) if kind == "csv" else bytes(row[0])
