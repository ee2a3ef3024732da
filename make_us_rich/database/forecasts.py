"""Forecasts that a backfill makes of a past candle, kept beside the served ones, to be scored like them."""

from __future__ import annotations

from collections.abc import Mapping

from make_us_rich.core.interval import Interval
from make_us_rich.database.connection import transaction
from make_us_rich.documents import QUANTILE_NAMES


def record(
    database_url: str,
    forecast: Mapping[str, float],
    *,
    market: str,
    pair: str,
    interval: Interval,
    version: int,
    as_of_ms: int,
) -> None:
    """`forecast`: last_close and the quantiles, quote currency. A repeated record changes nothing."""
    row = {
        "market": market,
        "pair": pair,
        "interval": interval,
        "target_open_ms": as_of_ms,
        "model_version": version,
        "as_of_ms": as_of_ms,
        **{name: forecast[name] for name in ("last_close", *QUANTILE_NAMES)},
    }
    insert = (
        f"INSERT INTO forecasts ({', '.join(row)}) VALUES ({', '.join(f'%({name})s' for name in row)})"
        " ON CONFLICT DO NOTHING"
    )
    with transaction(database_url) as cursor:
        cursor.execute(insert, row)
