"""Candles in memory and their rules.

- An open candle is never used: `closed` keeps those that closed at or before a time.
- `clean` rejects impossible rows and reports them.
- Storage keeps gaps. `regular_segments` fills short ones with flat candles, marks these, and splits at longer gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.errors import BadCandles
from make_us_rich.core.interval import Interval
from make_us_rich.core.times import EARLIEST_MS, LATEST_MS, utc_text
from make_us_rich.documents import CandleColumns
from make_us_rich.market.breaks import breaks, factor

_EXAMPLES = 3

LOWEST_PRICE, HIGHEST_PRICE = 1e-15, 1e15
"""A price beyond these limits is an error of its source: no currency costs that little or that much in another one."""
HIGHEST_VOLUME = 1e21  # times the highest price it is still a float32, in which models compute

MAX_BRIDGED = 3
"""The longest gap, in candles, that is filled with flat candles. Training and serving must agree on it."""


@dataclass(frozen=True, eq=False)
class Candles:
    """`n` candles of one pair and interval, oldest first.

    open_time_ms: int64 [n], UTC. open, high, low, close: float64 [n], quote currency.
    volume: float64 [n], base currency.
    """

    open_time_ms: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.open_time_ms)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Candles:
        return Candles(*(column[rows] for column in vars(self).values()))


def from_klines(rows: Sequence[Sequence[Any]]) -> Candles:
    """Read Binance's kline rows: open time, open, high, low, close, volume; further columns are ignored.

    Numbers may be text, as Binance sends them. Raises BadCandles for a row of any other form.
    """
    try:
        times = np.array([int(row[0]) for row in rows], dtype=np.int64)
        values = np.array([[float(cell) for cell in row[1:6]] for row in rows], dtype=np.float64)
        return Candles(times, *values.reshape(-1, 5).T)
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        raise BadCandles(f"a kline row is not an open time and five numbers: {error}") from None


def from_columns(columns: CandleColumns) -> Candles:
    """Return the candles of an API document."""
    times = np.array(columns.open_time_ms, dtype=np.int64)
    prices = (columns.open, columns.high, columns.low, columns.close, columns.volume)
    return Candles(times, *(np.array(column, dtype=np.float64) for column in prices))


def concatenate(parts: Sequence[Candles]) -> Candles:
    """Concatenate the parts' rows without sorting them."""
    if not parts:
        return from_klines([])
    return Candles(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Candles)))


def merge(parts: Sequence[Candles]) -> Candles:
    """Merge the parts' rows in order of time; of rows with the same open time the last part's stays."""
    rows = concatenate(parts)
    last_part_first = rows[np.arange(len(rows))[::-1]]
    _, first = np.unique(last_part_first.open_time_ms, return_index=True)
    return last_part_first[first]


def contiguous_ranges(open_times_ms: NDArray[np.int64], step: int) -> Iterator[tuple[int, int]]:
    """Yield the gap-free ranges of sorted open times as (first open time, last close time), milliseconds."""
    for run in np.split(open_times_ms, np.flatnonzero(np.diff(open_times_ms) != step) + 1):
        if len(run):
            yield int(run[0]), int(run[-1]) + step


def closed(candles: Candles, interval: Interval, as_of_ms: int) -> Candles:
    """Keep the candles that closed at or before `as_of_ms`."""
    return candles[candles.open_time_ms + interval.ms <= as_of_ms]


@dataclass(frozen=True)
class CandleReport:
    """What `clean` kept and rejected: counts by reason, the first examples, and the gaps between kept candles."""

    kept: int
    rejected: dict[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    missing: int = 0  # candles, over all gaps
    gaps: tuple[str, ...] = ()  # the longest ones, longest first

    def __str__(self) -> str:
        text = f"{self.kept} candles"
        if self.missing:
            text += f", {self.missing} missing in gaps (such as {'; '.join(self.gaps)})"
        if self.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.rejected.items())
            text += f"; rejected {reasons} (such as {'; '.join(self.examples)})"
        return text


def clean(candles: Candles, interval: Interval) -> tuple[Candles, CandleReport]:
    """Keep the valid rows, in order of time, and report the rejected ones.

    Of valid rows with the same open time the first stays. Rows may come in any order.
    """
    rows = candles[np.argsort(candles.open_time_ms, kind="stable")]
    invalid = np.zeros(len(rows), dtype=bool)
    rejected: dict[str, int] = {}
    examples: list[str] = []
    for reason, fault in _faults(rows, interval.ms).items():
        new = fault & ~invalid
        if new.any():
            rejected[reason] = int(new.sum())
            examples.append(f"{utc_text(int(rows.open_time_ms[new][0]))} {reason}")
        invalid |= fault
    valid = rows[~invalid]
    repeated = np.diff(valid.open_time_ms, prepend=-1) == 0
    if repeated.any():
        rejected["duplicate"] = int(repeated.sum())
        examples.append(f"{utc_text(int(valid.open_time_ms[repeated][0]))} duplicate")
    kept = valid[~repeated]
    missing, gaps = _gaps(kept, interval.ms)
    return kept, CandleReport(len(kept), rejected, tuple(examples[:_EXAMPLES]), missing, gaps)


def _faults(rows: Candles, step: int) -> dict[str, NDArray[np.bool_]]:
    prices = np.stack([rows.open, rows.high, rows.low, rows.close])
    with np.errstate(invalid="ignore"):
        return {
            "at an impossible time": (rows.open_time_ms < EARLIEST_MS) | (rows.open_time_ms >= LATEST_MS),
            "off the grid": rows.open_time_ms % step != 0,
            "without a finite positive price": ~(np.isfinite(prices) & (prices > 0)).all(axis=0),
            "with an absurd price or volume": ((prices < LOWEST_PRICE) | (prices > HIGHEST_PRICE)).any(axis=0)
            | (rows.volume > HIGHEST_VOLUME),
            "with high or low inside the body": (rows.high < np.maximum(rows.open, rows.close))
            | (rows.low > np.minimum(rows.open, rows.close)),
            "without a volume of zero or more": ~(np.isfinite(rows.volume) & (rows.volume >= 0)),
        }


def _gaps(kept: Candles, step: int) -> tuple[int, tuple[str, ...]]:
    missing = np.diff(kept.open_time_ms) // step - 1
    longest = [int(row) for row in np.argsort(-missing, kind="stable")[:_EXAMPLES] if missing[row] > 0]
    texts = [f"{missing[row]} from {utc_text(int(kept.open_time_ms[row]) + step)}" for row in longest]
    return int(missing.sum()), tuple(texts)


@dataclass(frozen=True, eq=False)
class Segment:
    """Candles without a gap; `bridged`, bool [n], marks the flat ones that replace missing candles."""

    candles: Candles
    bridged: NDArray[np.bool_]


def regular_segments(candles: Candles, interval: Interval, max_bridged: int) -> list[Segment]:
    """Split clean candles into gap-free segments, oldest first.

    A gap of up to `max_bridged` candles is filled with flat candles: all prices the previous close, volume 0. A longer
    gap starts a new segment, and so does a break of the price.
    """
    if len(candles) == 0:
        return []
    step = interval.ms
    missing = np.diff(candles.open_time_ms) // step - 1
    new = np.union1d(np.flatnonzero(missing > max_bridged) + 1, breaks(candles))
    starts = np.concatenate([[0], new, [len(candles)]])
    return [_bridge_gaps(candles[int(start) : int(end)], step) for start, end in pairwise(starts)]


def break_text(candles: Candles) -> str:
    """Say where the newest break of the price is and what follows; empty without one."""
    found = breaks(candles)
    if not len(found):
        return ""
    row = int(found[-1])
    by, at = factor(candles, row), utc_text(int(candles.open_time_ms[row]))
    return (
        f"the price was multiplied by {by:.6g} at {at}, as when a coin is redenominated: candles before it are not "
        f"used, and there are {len(candles) - row} after it"
    )


def _bridge_gaps(part: Candles, step: int) -> Segment:
    times = np.arange(part.open_time_ms[0], part.open_time_ms[-1] + step, step, dtype=np.int64)
    # the last existing candle at or before each time of the grid
    source = np.searchsorted(part.open_time_ms, times, side="right") - 1
    bridged = part.open_time_ms[source] != times
    columns = {
        name: np.where(bridged, part.close[source], getattr(part, name)[source])
        for name in ("open", "high", "low", "close")
    }
    volume = np.where(bridged, 0.0, part.volume[source])
    return Segment(Candles(times, **columns, volume=volume), bridged)
