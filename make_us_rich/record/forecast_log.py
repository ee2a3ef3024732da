"""Publish the log of each day's live forecasts, as CSV and parquet, with hashes that form a chain."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from make_us_rich.core.times import iso_text
from make_us_rich.database import forecast_logs
from make_us_rich.database.forecast_logs import LogDay, LoggedForecast
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, QUANTILE_NAMES

COLUMNS = (
    "pair",
    "interval",
    "as_of",
    "recorded_at",
    "horizon",
    "target_close",
    "model_version",
    "foundation",
    "last_close",
    *QUANTILE_NAMES,
)
"""Of a log: a row for each forecast and horizon of HORIZON_GRID, in the order of recording. Times are ISO, UTC."""


def publish(database: Database, market: str, today: date) -> list[LogDay]:
    """Publish every day before `today` that is not published yet, oldest first. Raises psycopg2.Error."""
    last = forecast_logs.newest(database, market)
    day = last.day + timedelta(days=1) if last else forecast_logs.first_live_day(database, market)
    found = []
    while day is not None and day < today:
        live = forecast_logs.live_forecasts(database, market, day)
        rows = list(_rows(live))
        found.append(
            forecast_logs.append(
                database, market, day, forecasts=len(live), csv=_as_csv(rows), parquet=_as_parquet(rows)
            )
        )
        day += timedelta(days=1)
    return found


def _rows(live: Sequence[LoggedForecast]) -> Iterator[tuple[object, ...]]:
    for each in live:
        for horizon in HORIZON_GRID:
            if horizon > len(each.prices):
                break
            yield (
                str(each.pair),
                str(each.interval),
                iso_text(each.as_of_ms),
                each.made_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                horizon,
                iso_text(each.as_of_ms + horizon * each.interval.ms),
                each.version,
                int(each.foundation),
                each.last_close,
                *each.prices[horizon - 1],
            )


def _as_csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()


def _as_parquet(rows: Sequence[Sequence[object]]) -> bytes:
    text, number, count = pa.string(), pa.float64(), pa.int32()
    kinds = dict.fromkeys(COLUMNS, text) | dict.fromkeys(("last_close", *QUANTILE_NAMES), number)
    kinds |= dict.fromkeys(("horizon", "model_version", "foundation"), count)
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    arrays = [pa.array(column, kinds[name]) for name, column in zip(COLUMNS, columns, strict=True)]
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays, names=list(COLUMNS)), buffer, compression="zstd")
    return buffer.getvalue()
