"""The one reader of parquet files of klines, which other programs may have written.

It reads what is certain: rows in any order, repeated rows, times in seconds to nanoseconds or as timestamps, names of
columns in any case. It refuses what it would have to guess, and names the file: two units of time, rows of two
intervals, two different rows of one time. Impossible rows are left out and counted in the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from make_us_rich.core.errors import BadCandles
from make_us_rich.core.interval import Interval
from make_us_rich.core.times import EARLIEST_MS, LATEST_MS, utc_text
from make_us_rich.market.candles import CandleReport, Candles, clean

COLUMNS = ("open_time", "open", "high", "low", "close", "volume")

_PER_MS = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_CONCLUSIVE = 24  # equal steps in a row that are longer than a candle: rows of a longer interval rather than gaps
_MOST_REJECTED = 0.25  # of the rows: with more, it is the file that was not understood, rather than some rows
_MINUTE_MS = 60_000
_LENGTHS = (("d", 86_400_000), ("h", 3_600_000), ("m", _MINUTE_MS), ("s", 1_000), ("ms", 1))


@dataclass(frozen=True)
class KlinesFile:
    """What a file holds: valid candles, their interval, what was left out, and the names of further columns."""

    path: Path
    candles: Candles
    interval: Interval
    report: CandleReport
    other_columns: tuple[str, ...]


def read_klines_file(path: Path, expected: Interval) -> KlinesFile:
    """Read a file. Its rows tell their interval; `expected` is that of a file with too few rows to tell.

    Raises BadCandles with the file's name, what was seen, and what to do.
    """
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise BadCandles(
            f"{path.name} is not a table of klines, or is torn: {error}. Delete it, or repair it"
        ) from None
    try:
        columns = _named_columns(table)
        times_ms = _times_ms(table[columns["open_time"]])
        rows = _sorted(times_ms, [_numbers(table[columns[name]], name) for name in COLUMNS[1:]])
        interval = _interval(rows.open_time_ms, expected)
        candles, report = clean(rows, interval)
        if not len(candles) and (rows.open_time_ms % interval.ms).all():
            raise _NotUnderstood(
                f"has candles of {interval} that open at {utc_text(int(rows.open_time_ms[0]))} and so on, where none "
                "opens: open_time must be when a candle opens, in UTC"
            )
        if len(rows) - len(candles) > _MOST_REJECTED * len(rows):
            raise _NotUnderstood(f"has {report}")
    except _NotUnderstood as error:
        raise BadCandles(f"{path.name} {error}") from None
    others = tuple(name for name in table.column_names if name not in columns.values())
    return KlinesFile(path, candles, interval, report, others)


class _NotUnderstood(Exception):
    """What was seen in the file, and the way out; the sentence begins with a verb."""


def _named_columns(table: pa.Table) -> Mapping[str, str]:
    """Return the file's names of our columns, which may differ in case, spaces and underscores."""
    found: dict[str, str] = {}
    for name in table.column_names:
        ours = next((known for known in COLUMNS if _bare(known) == _bare(name)), None)
        if ours in found:
            raise _NotUnderstood(f"has the columns {found[ours]!r} and {name!r}: keep one of them")
        if ours:
            found[ours] = name
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise _NotUnderstood(
            f"lacks the columns {', '.join(missing)}; it has {', '.join(table.column_names) or 'none'}: name the "
            f"columns {', '.join(COLUMNS)}, the first with the times at which candles open"
        )
    if not table.num_rows:
        raise _NotUnderstood("has no rows: delete it")
    return found


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace(" ", "")


def _numbers(column: pa.ChunkedArray, name: str) -> NDArray[np.float64]:
    """Read numbers, or numbers written as text, as the exchange sends them; a missing one is NaN."""
    try:
        values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy().astype(np.float64)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _NotUnderstood(f"has something else than numbers in the column {name}: {error}") from None
    return values


def _times_ms(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return UTC milliseconds from integers of one unit, or from timestamps; those without a zone are in UTC."""
    if column.null_count:
        raise _NotUnderstood(f"has {column.null_count} rows without open_time: delete these rows")
    kind = column.type
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("ms"))
        kind = column.type
    try:
        if pa.types.is_timestamp(kind):
            return _in_ms(column.cast(pa.int64()).to_numpy(), kind.unit)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            values = column.cast(pa.int64()).to_numpy()  # raises for a fraction and for NaN
            return _in_ms(values, _unit(values))
    except pa.ArrowException as error:
        raise _NotUnderstood(f"has times that are no whole numbers: {error}") from None
    raise _NotUnderstood(f"has times of the type {kind}: write numbers since 1970, such as milliseconds, or timestamps")


def _unit(values: NDArray[np.int64]) -> str:
    """Return the unit in which every value is a possible time: the ranges of the units do not overlap."""
    counts = {unit: int(_possible(values, unit).sum()) for unit in _PER_MS}
    if sum(counts.values()) < len(values):
        impossible = values[~np.logical_or.reduce([_possible(values, unit) for unit in _PER_MS])]
        raise _NotUnderstood(
            f"has the open_time {impossible[0]}, which is no time from 2009 on in seconds, milliseconds, microseconds "
            "or nanoseconds since 1970: repair or delete such rows"
        )
    units = [unit for unit, count in counts.items() if count]
    if len(units) > 1:
        seen = " and ".join(f"{counts[unit]} times in {_UNIT_NAMES[unit]}" for unit in units)
        raise _NotUnderstood(f"has {seen}: write all of them in one unit")
    return units[0]


def _in_ms(values: NDArray[np.int64], unit: str) -> NDArray[np.int64]:
    impossible = ~_possible(values, unit)
    if impossible.any():
        first = values[impossible][0]
        raise _NotUnderstood(
            f"has the timestamp {np.datetime64(int(first), unit)}, before 2009 or after 2100: "  # type: ignore[call-overload]
            "its numbers were read in another unit than they were written in"
        )
    if unit == "s":
        return values * 1000
    per_ms = int(_PER_MS[unit])
    if (values % per_ms).any():
        raise _NotUnderstood(
            f"has times in {_UNIT_NAMES[unit]} that are no whole milliseconds: candles open on the hour"
        )
    return values // per_ms


def _possible(values: NDArray[np.int64], unit: str) -> NDArray[np.bool_]:
    return (values >= EARLIEST_MS * _PER_MS[unit]) & (values < LATEST_MS * _PER_MS[unit])


def _sorted(times_ms: NDArray[np.int64], numbers: list[NDArray[np.float64]]) -> Candles:
    """Return the rows in order of time, without exact repeats."""
    order = np.argsort(times_ms, kind="stable")
    rows = Candles(times_ms[order], *(column[order] for column in numbers))
    repeated = np.diff(rows.open_time_ms, prepend=-1) == 0
    for item in fields(Candles)[1:]:
        column = getattr(rows, item.name)
        differs = repeated[1:] & (column[1:] != column[:-1]) & ~(np.isnan(column[1:]) & np.isnan(column[:-1]))
        if differs.any():
            at_ms = int(rows.open_time_ms[1:][differs][0])
            raise _NotUnderstood(f"has two rows of {utc_text(at_ms)} that differ in {item.name}: delete the wrong one")
    return rows[~repeated]


def _interval(times_ms: NDArray[np.int64], expected: Interval) -> Interval:
    """Return the interval of rows in order of time. Raises _NotUnderstood when there are rows of another one."""
    steps = np.diff(times_ms)
    lengths, counts = np.unique(steps, return_counts=True)
    usual = int(lengths[np.argmax(counts)]) if len(steps) else expected.ms
    interval = next((known for known in Interval if known.ms == usual), None)
    if interval is None and len(steps) < _CONCLUSIVE and not (steps % expected.ms).any():
        interval = expected  # a few candles with gaps between them
    if interval is None:
        raise _NotUnderstood(f"has candles of {length_text(usual)}, not of {', '.join(Interval)}: choose other candles")
    off = times_ms[times_ms % interval.ms != 0]
    # After an outage of 2018 the exchange had candles that opened at odd seconds; these are left out as rows.
    shorter = off[off % _MINUTE_MS == 0]
    if len(shorter) and len(off) < len(times_ms):
        raise _NotUnderstood(
            f"has candles of {interval} and {len(shorter)} rows of a shorter interval, such as that of "
            f"{utc_text(int(shorter[0]))}: keep those of one interval"
        )
    longer = [length for length in lengths.tolist() if length > interval.ms and _longest_run(steps == length)]
    if longer:
        raise _NotUnderstood(f"has candles of {interval} and of {length_text(longer[0])}: keep those of one interval")
    return interval


def _longest_run(mask: NDArray[np.bool_]) -> bool:
    """True when so many values in a row are true that they are no coincidence."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return bool((edges[1::2] - edges[::2] >= _CONCLUSIVE).any())


def length_text(length_ms: int) -> str:
    """Return a length as Binance writes intervals, such as 15m or 7d."""
    unit, unit_ms = next((unit, unit_ms) for unit, unit_ms in _LENGTHS if length_ms % unit_ms == 0)
    return f"{length_ms // unit_ms}{unit}"
