"""Past candles as files, one for each pair, such as BTCUSDT.parquet: what benchmarks, backtests and replays read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from make_us_rich.errors import InputError
from make_us_rich.intervals import interval_ms
from make_us_rich.market.binance import Market
from make_us_rich.market.candles import CandleReport, Candles, clean, from_klines, spans, stack
from make_us_rich.market.recorded import klines_path, read_klines, write_klines
from make_us_rich.pairs import Pair

_SAVE_EVERY_S = 5.0


@dataclass(frozen=True)
class Downloaded:
    """What one call of `Download.run` did."""

    pair: str
    new: int  # candles that the file did not hold before
    report: CandleReport  # of the file, with what was rejected of the new candles

    def __str__(self) -> str:
        return f"{self.pair}: {self.new} new, the file holds {self.report}"


class Download:
    """One pair's candles from `start_ms` to `end_ms`, which are not later than the exchange's clock.

    Only candles that the file in `folder` lacks are asked for, so a download that was interrupted goes on where it
    stopped. Holes are asked for again: the exchange may have repaired them, and one request finds out.
    """

    def __init__(self, pair: Pair, interval: str, start_ms: int, end_ms: int, folder: Path) -> None:
        self._pair, self._interval, self._step = pair, interval, interval_ms(interval)
        self._path = klines_path(folder, pair)
        self._known = read_klines(self._path, interval) if self._path.is_file() else from_klines([])
        wanted = np.arange(-(-start_ms // self._step) * self._step, end_ms - self._step + 1, self._step)
        self.missing: NDArray[np.int64] = np.setdiff1d(wanted, self._known.open_time_ms)

    def run(self, market: Market, on_progress: Callable[[int], None] = lambda candles: None) -> Downloaded:
        """Download what is missing; `on_progress` is called with the number of candles that were passed.

        Whatever ends the download, all candles that arrived are in the file. Raises MarketError, and InputError when
        neither the exchange nor the file has any candle.
        """
        came: list[Candles] = []
        saved_s = time.monotonic()
        try:
            for start_ms, end_ms in spans(self.missing, self._step):
                at_ms = start_ms
                for page in market.pages(self._pair, self._interval, start_ms, end_ms):
                    came.append(page)
                    newest_ms = max(at_ms, *page.open_time_ms.tolist()) + self._step
                    on_progress((newest_ms - at_ms) // self._step)
                    at_ms = newest_ms
                    if time.monotonic() - saved_s > _SAVE_EVERY_S:
                        self._save(came)
                        saved_s = time.monotonic()
                on_progress((end_ms - at_ms) // self._step)
        finally:
            report = self._save(came)
        if not report.kept:
            raise InputError(f"the exchange has no candle of {self._pair} in this time", field="from")
        return Downloaded(str(self._pair), report.kept - len(self._known), report)

    def _save(self, came: list[Candles]) -> CandleReport:
        candles, report = clean(stack([self._known, *came]), self._interval)
        if came and len(candles):
            write_klines(self._path, candles)
        return report
