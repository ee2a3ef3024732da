"""Recorded klines: a folder with one parquet file for each pair, such as BTCUSDT.parquet.

`klines_file` reads the files. A file's name is that of the pair, in any case, with or without a separator;
other files are named in a warning and not read.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from make_us_rich.core.errors import BadCandles, InputError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN, Pair, parse_symbol
from make_us_rich.market.candle_table import to_table
from make_us_rich.market.candles import CandleReport, Candles, clean, concatenate, contiguous_ranges, from_klines
from make_us_rich.market.klines_file import KlinesFile, read_klines_file

if TYPE_CHECKING:  # its module needs the exchange's client library, which the replay exchange does not install
    from make_us_rich.market.exchange import ExchangeClient

_SAVE_EVERY_S = 5.0
_logger = logging.getLogger(__name__)


def read_klines(path: Path, interval: Interval) -> Candles:
    """Read a file with the columns open_time, open, high, low, close, volume; what is left out is logged.

    Raises BadCandles when the file is not certain to have candles of this interval.
    """
    file = _read(path, interval)
    if file.interval != interval:
        raise BadCandles(f"{path.name} has candles of {file.interval}, not of {interval}: choose another folder")
    return file.candles


def read_resampled(path: Path, interval: Interval) -> Candles:
    """Read a file like `read_klines`; candles of a shorter interval, such as 1h for 4h, are resampled.

    Raises BadCandles, also when the file has candles of a longer interval.
    """
    file = _read(path, interval)
    if interval.ms % file.interval.ms:
        raise BadCandles(f"{path.name} has candles of {file.interval}, not of {interval} or shorter: download those")
    return resample(file.candles, file.interval, interval)


def digest(candles: Candles) -> str:
    """Return the SHA-256 of the values: the bytes of a parquet file depend on the version that wrote it."""
    times, *columns = vars(candles).values()
    values = times.astype("<i8").tobytes() + b"".join(column.astype("<f8").tobytes() for column in columns)
    return hashlib.sha256(values).hexdigest()


def _read(path: Path, interval: Interval) -> KlinesFile:
    file = read_klines_file(path, interval)
    if file.report.rejected:
        _logger.warning("%s: %s", path.name, file.report)
    return file


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


def write_klines(path: Path, candles: Candles) -> None:
    """Write a file for `read_klines` and the replay exchange. Replaces it atomically."""
    temporary = path.with_name(f".{path.name}.unfinished")
    pq.write_table(to_table(candles), temporary, compression="zstd")
    temporary.replace(path)


def recorded_files(folder: Path) -> Mapping[Pair, Path]:
    """Return the file of each pair that a folder has klines of, sorted by pair; other parquet files are logged.

    Raises BadCandles when two files are of one pair.
    """
    found: dict[Pair, Path] = {}
    skipped = []
    for path in _parquet_files(folder):
        pair = parse_symbol(path.stem)
        if pair is None:
            skipped.append(path.name)
        elif pair in found:
            raise BadCandles(f"{folder} has two files of {pair}, {found[pair].name} and {path.name}: keep one of them")
        else:
            found[pair] = path
    if skipped:
        _logger.warning(
            "%s: not read, because klines are in a file with their pair's name, such as BTCUSDT.parquet: %s",
            folder,
            ", ".join(skipped),
        )
    return dict(sorted(found.items()))


def recorded_pairs(folder: Path) -> list[Pair]:
    """List the pairs that a folder has klines of, sorted."""
    return list(recorded_files(folder))


def require_recorded_files(folder: Path, *, bitcoin: bool) -> Mapping[Pair, Path]:
    """Return `recorded_files`. Raises InputError when there are none, or, if asked for, none of bitcoin."""
    files = recorded_files(folder)
    if not files:
        others = sorted(path.name for path in folder.iterdir())[:3] if folder.is_dir() else []
        seen = f" (it has {', '.join(others)})" if others else ""
        raise InputError(
            f"{folder} holds no .parquet klines{seen}: name a folder with files like BTCUSDT.parquet, "
            "as `mkrich candles download` makes it",
            field="data",
        )
    if bitcoin and BITCOIN not in files:
        raise InputError(
            f"{folder} has klines of {', '.join(files)}, but not of bitcoin, which every model reads: add them by "
            f"`mkrich candles download --pairs {BITCOIN} --from … --to … --out {folder}`",
            field="data",
        )
    return files


def read_recorded(folder: Path, pairs: Collection[Pair], interval: Interval) -> dict[str, Candles]:
    """Read the candles of each pair, resampled where the folder has those of a shorter interval.

    Raises BadCandles, or InputError that names the pairs that the folder lacks.
    """
    paths = {pair: klines_path(folder, pair) for pair in pairs}
    missing = [str(pair) for pair, path in paths.items() if not path.is_file()]
    if missing:
        have = ", ".join(recorded_pairs(folder)) or "no klines"
        raise InputError(
            f"{folder} has no klines of {', '.join(missing)}, it has {have}: download them by "
            f"`mkrich candles download --pairs {','.join(missing)} --from … --to … --out {folder}`",
            field="candles",
        )
    return {str(pair): read_resampled(path, interval) for pair, path in paths.items()}


def klines_path(folder: Path, pair: Pair) -> Path:
    """Return the path of a pair's file: that which exists, such as btc_usdt.parquet, or else BTCUSDT.parquet.

    Raises BadCandles when two files are of this pair.
    """
    names = {pair.symbol, f"{pair}".upper(), f"{pair}".replace("_", "-").upper()}
    found = [path for path in _parquet_files(folder) if path.stem.upper() in names]
    if len(found) > 1:
        raise BadCandles(f"{folder} has two files of {pair}, {found[0].name} and {found[1].name}: keep one of them")
    return found[0] if found else folder / f"{pair.symbol}.parquet"


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() == ".parquet")


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
    are requested again, because the exchange may have repaired them. Raises BadCandles when a file of the pair is there
    that would lose something: one that was not understood, has candles of another interval, or further columns.
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
    if not path.exists():
        return from_klines([])
    file = read_klines_file(path, interval)
    seen = ""
    if file.interval != interval:
        seen = f"candles of {file.interval}, not of {interval}"
    elif file.report.rejected:
        seen = f"rows that a download would delete: {file.report}"
    elif file.other_columns:
        seen = f"columns that a download would delete: {', '.join(file.other_columns)}"
    if seen:
        raise BadCandles(f"{path} has {seen}: choose another folder", field="out")
    return file.candles
