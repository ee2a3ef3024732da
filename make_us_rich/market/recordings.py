"""Recorded klines: a folder with one parquet file for each pair, such as BTCUSDT.parquet."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from make_us_rich.core.errors import BadCandles, InputError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, parse_symbol
from make_us_rich.market.candles import CandleReport, Candles, clean, concatenate, contiguous_ranges, from_klines
from make_us_rich.market.exchange import ExchangeClient

_COLUMNS = ("open", "high", "low", "close", "volume")
_SAVE_EVERY_S = 5.0


def read_klines(path: Path, interval: Interval) -> Candles:
    """Read and clean one file with the columns open_time (ms), open, high, low, close, volume. Raises BadCandles."""
    with _unreadable_named(path):
        return clean(_read_rows(path), interval)[0]


def read_resampled(path: Path, interval: Interval) -> Candles:
    """Read a file like `read_klines`; candles of a shorter interval, such as 1h for 4h, are resampled.

    Raises BadCandles, or InputError when the file has candles of a longer interval.
    """
    with _unreadable_named(path):
        rows = _read_rows(path)
        recorded = _recorded_interval(rows) or interval
        candles = clean(rows, recorded)[0]
    if interval.ms % recorded.ms:
        raise InputError(
            f"{path.name} has candles of {recorded}, not of {interval} or shorter: download those", field="candles"
        )
    return resample(candles, recorded, interval)


def resample(candles: Candles, interval: Interval, to: Interval) -> Candles:
    """Merge clean candles into candles of a longer interval; one exists only where all its parts do."""
    count = to.ms // interval.ms
    starts = np.flatnonzero(np.diff(candles.open_time_ms // to.ms, prepend=-1))
    complete = starts[np.diff(starts, append=len(candles)) == count]
    parts = candles[complete[:, None] + np.arange(count)]
    return Candles(
        parts.open_time_ms[:, 0],
        parts.open[:, 0],
        parts.high.max(axis=1),
        parts.low.min(axis=1),
        parts.close[:, -1],
        parts.volume.sum(axis=1),
    )


def _read_rows(path: Path) -> Candles:
    rows = pq.read_table(path)
    return Candles(rows["open_time"].to_numpy(), *(rows[name].to_numpy().astype(float) for name in _COLUMNS))


@contextmanager
def _unreadable_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, KeyError, ValueError) as error:
        wanted = ", ".join(("open_time", *_COLUMNS))
        raise BadCandles(f"{path.name} is not a table of klines with {wanted}: {error}") from None


def _recorded_interval(rows: Candles) -> Interval | None:
    """Return the interval between most of the rows; None when it is none of ours."""
    between = np.diff(np.unique(rows.open_time_ms))
    typical = float(np.median(between)) if len(between) else 0.0
    return next((interval for interval in Interval if interval.ms == typical), None)


def write_klines(path: Path, candles: Candles) -> None:
    """Write a file for `read_klines` and the replay exchange. Replaces it atomically."""
    columns = {name: getattr(candles, name) for name in _COLUMNS}
    temporary = path.with_name(f".{path.name}.unfinished")
    pq.write_table(pa.table({"open_time": candles.open_time_ms, **columns}), temporary, compression="zstd")
    temporary.replace(path)


def recorded_pairs(folder: Path) -> list[Pair]:
    """List the pairs that a folder has klines of, sorted."""
    found = (parse_symbol(path.stem) for path in folder.glob("*.parquet"))
    return sorted(pair for pair in found if pair is not None)


def read_recorded(folder: Path, pairs: Collection[Pair], interval: Interval) -> dict[str, Candles]:
    """Read the candles of each pair, resampled where the folder has those of a shorter interval.

    Raises BadCandles, or InputError that names the pairs that the folder lacks.
    """
    missing = [str(pair) for pair in pairs if not klines_path(folder, pair).is_file()]
    if missing:
        have = ", ".join(map(str, recorded_pairs(folder))) or "no klines"
        raise InputError(
            f"{folder} has no klines of {', '.join(missing)}, it has {have}: download them by "
            f"`mkrich candles download --pairs {','.join(missing)} --from … --to … --out {folder}`",
            field="candles",
        )
    return {str(pair): read_resampled(klines_path(folder, pair), interval) for pair in pairs}


def klines_path(folder: Path, pair: Pair) -> Path:
    """Return the path of a pair's file."""
    return folder / f"{pair.symbol}.parquet"


@dataclass(frozen=True)
class DownloadReport:
    """What `Download.run` did."""

    pair: str
    new: int  # candles added to the file
    report: CandleReport  # of the whole file; also counts the rejected new candles

    def __str__(self) -> str:
        return f"{self.pair}: {self.new} new, the file holds {self.report}"


class Download:
    """Downloads one pair's candles from `start_ms` to `end_ms`, which must not be later than the exchange's clock.

    Requests only candles that the file in `folder` lacks, so an interrupted download continues where it stopped. Gaps
    are requested again, because the exchange may have repaired them. Raises InputError when the file has candles of
    another interval.
    """

    def __init__(self, pair: Pair, interval: Interval, start_ms: int, end_ms: int, folder: Path) -> None:
        self._pair, self._interval, self._step = pair, interval, interval.ms
        self._path = klines_path(folder, pair)
        self._known = _known_candles(self._path, interval)
        wanted = np.arange(-(-start_ms // self._step) * self._step, end_ms - self._step + 1, self._step)
        self.missing: NDArray[np.int64] = np.setdiff1d(wanted, self._known.open_time_ms)

    def run(
        self, exchange: ExchangeClient, on_progress: Callable[[int], None] = lambda candles: None
    ) -> DownloadReport:
        """Download the missing candles; `on_progress` receives the number of candles processed since its last call.

        However the download ends, all received candles are in the file. Raises MarketError, and InputError when neither
        the exchange nor the file has any candle.
        """
        received: list[Candles] = []
        saved_s = time.monotonic()
        try:
            for start_ms, end_ms in contiguous_ranges(self.missing, self._step):
                at_ms = start_ms
                for page in exchange.pages(self._pair, self._interval, start_ms, end_ms):
                    received.append(page)
                    newest_ms = max(at_ms, *page.open_time_ms.tolist()) + self._step
                    on_progress((newest_ms - at_ms) // self._step)
                    at_ms = newest_ms
                    if time.monotonic() - saved_s > _SAVE_EVERY_S:
                        self._save(received)
                        saved_s = time.monotonic()
                on_progress((end_ms - at_ms) // self._step)
        finally:
            report = self._save(received)
        if not report.kept:
            raise InputError(f"the exchange has no candle of {self._pair} in this time", field="from")
        return DownloadReport(str(self._pair), report.kept - len(self._known), report)

    def _save(self, received: list[Candles]) -> CandleReport:
        candles, report = clean(concatenate([self._known, *received]), self._interval)
        if received and len(candles):
            write_klines(self._path, candles)
        return report


def _known_candles(path: Path, interval: Interval) -> Candles:
    if not path.is_file():
        return from_klines([])
    with _unreadable_named(path):
        rows = _read_rows(path)
    recorded = _recorded_interval(rows)
    if recorded not in (interval, None):
        raise InputError(f"{path} has candles of {recorded}, not of {interval}: choose another folder", field="out")
    return clean(rows, interval)[0]
