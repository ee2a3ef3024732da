"""The table `forecasts`: what was forecast for each candle, by the model that served or that a backfill trained."""

from __future__ import annotations

from collections.abc import Sequence

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database.pool import Database
from make_us_rich.documents import QUANTILE_NAMES, PastForecast, Quantiles

_COLUMNS = (
    "market",
    "pair",
    "interval",
    "target_open_ms",
    "model_version",
    "foundation",
    "as_of_ms",
    "last_close",
    *QUANTILE_NAMES,
)
_INSERT = (
    f"INSERT INTO forecasts ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))}) ON CONFLICT DO NOTHING"
)
# When two models forecast the same candle, callers saw the later one's forecast last.
_SELECT_PAST = f"""
SELECT DISTINCT ON (target_open_ms) target_open_ms, model_version, foundation, last_close, {", ".join(QUANTILE_NAMES)}
FROM forecasts WHERE market = %s AND pair = %s AND interval = %s AND target_open_ms <= %s
ORDER BY target_open_ms DESC, forecast_id DESC LIMIT %s
"""
_SELECT_FIRST = f"""
SELECT DISTINCT ON (target_open_ms) target_open_ms, last_close, {", ".join(QUANTILE_NAMES)}
FROM forecasts WHERE market = %s AND pair = %s AND interval = %s AND target_open_ms BETWEEN %s AND %s
ORDER BY target_open_ms, made_at, forecast_id
"""


def record(
    database: Database,
    quantiles: Quantiles,
    *,
    market: str,
    pair: Pair,
    interval: Interval,
    as_of_ms: int,
    version: int,
    last_close: float,
    foundation: bool = False,
) -> None:
    """Record the forecast of the candle that opens at `as_of_ms`; a repeated record changes nothing.

    `foundation`: `version` is one of the foundation model, not of the pair's own. Raises psycopg2.Error.
    """
    row = (market, pair, interval, as_of_ms, version, foundation, as_of_ms, last_close)
    with database.transaction() as cursor:
        cursor.execute(_INSERT, (*row, *quantiles.prices()))


def past(
    database: Database, *, market: str, pair: Pair, interval: Interval, closed_by_ms: int, limit: int
) -> list[PastForecast]:
    """Return the newest forecasts of candles that closed by `closed_by_ms`, newest first, without their outcomes.

    Of several models that forecast one candle, the last one's is returned. Raises psycopg2.Error.
    """
    values = (market, pair, interval, closed_by_ms - interval.ms, limit)
    with database.transaction() as cursor:
        cursor.execute(_SELECT_PAST, values)
        rows = cursor.fetchall()
    return [
        PastForecast(
            target_open_ms=open_ms,
            target_close_ms=open_ms + interval.ms,
            model_version=version,
            foundation=foundation,
            last_close=last_close,
            quantiles=Quantiles.of(prices),
            close=None,
            inside_80=None,
        )
        for open_ms, version, foundation, last_close, *prices in rows
    ]


def first_of_each_candle(
    database: Database, *, market: str, pair: Pair, interval: Interval, first_open_ms: int, last_open_ms: int
) -> Sequence[tuple[float, ...]]:
    """Return target_open_ms, last_close and the quantiles that were forecast first for each candle, oldest first.

    Raises psycopg2.Error.
    """
    values = (market, pair, interval, first_open_ms, last_open_ms)
    with database.transaction() as cursor:
        cursor.execute(_SELECT_FIRST, values)
        rows: list[tuple[float, ...]] = cursor.fetchall()
    return rows
