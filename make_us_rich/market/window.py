"""The newest closed candles of a pair and of BTC, asked for once a candle close."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache

import numpy as np

from make_us_rich.core.errors import MarketUnavailable
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.market.candles import MAX_BRIDGED, Candles, clean, concatenate, regular
from make_us_rich.market.exchange import Market

_log = logging.getLogger("ray.serve")

# What one request brings: six weeks of hours, for a chart and for the 744 candles that a model reads.
KEPT = 1000


@dataclass(frozen=True, eq=False)
class Window:
    """The newest closed candles of a pair, on the grid, and BTC's of the same hours; oldest first."""

    candles: Candles
    reference: Candles
    interval: Interval

    @property
    def as_of_ms(self) -> int:
        """Close of the newest candle."""
        return int(self.candles.open_time_ms[-1]) + self.interval.ms


class NewestCandles:
    """One pair's, kept from close to close. Threads that ask at the same moment share one request."""

    def __init__(self, pair: Pair, settings: Settings) -> None:
        self._pair = pair
        self._interval = settings.interval
        self._market = Market(settings.exchange_url)
        self._lock = threading.Lock()
        self._kept: Candles | None = None
        self._fetching: Future[Candles] | None = None

    def until(self, due_ms: int) -> Candles:
        """Those closed by `due_ms` that the exchange has, at least; oldest first. Blocks. Raises MarketError."""
        with self._lock:
            step_ms = self._interval.ms
            if self._kept is not None and self._kept.open_time_ms[-1] + step_ms >= due_ms:
                return self._kept
            asked = self._fetching
            fetching = self._fetching = asked or Future()
        if asked is None:
            self._fetch(fetching, due_ms)
        return fetching.result()

    def _fetch(self, fetching: Future[Candles], due_ms: int) -> None:
        try:
            candles = self._newer(due_ms)
        except BaseException as error:
            self._end(fetching, self._kept)
            fetching.set_exception(error)
        else:
            self._end(fetching, candles)
            fetching.set_result(candles)

    def _end(self, fetching: Future[Candles], candles: Candles | None) -> None:
        with self._lock:
            self._kept = candles if candles is not None and len(candles) else None
            self._fetching = None

    def _newer(self, due_ms: int) -> Candles:
        step_ms, kept = self._interval.ms, self._kept
        oldest_ms = due_ms - KEPT * step_ms
        start_ms = oldest_ms if kept is None else max(oldest_ms, int(kept.open_time_ms[-1]) + step_ms)
        fetched, report = clean(self._market.klines(self._pair, self._interval, start_ms, due_ms), self._interval)
        if report.rejected:
            _log.warning("%s: %s", self._pair, report)
        candles = concatenate([kept, fetched] if kept is not None else [fetched])
        return candles[candles.open_time_ms >= oldest_ms]


@cache
def shared_bitcoin(settings: Settings) -> NewestCandles:
    """BTC's, which every pair's model reads: one for all pairs of a process."""
    return NewestCandles(BITCOIN, settings)


class MarketWindow:
    """`candles` are the newest that could be fetched, with their gaps; `window` is what a model sees of them."""

    def __init__(self, pair: Pair, settings: Settings, bitcoin: NewestCandles) -> None:
        self._pair = pair
        self._interval = settings.interval
        self._bitcoin = bitcoin
        self._own = bitcoin if pair == BITCOIN else NewestCandles(pair, settings)
        self._is_fetched = False
        self.candles: Candles | None = None
        self.window: Window | None = None

    def restore(self, kept: Window) -> None:
        """Show what an earlier process kept until the exchange answers.

        It is never joined to the exchange's answers: it may be of another recording or simulation.
        """
        self.candles, self.window = kept.candles, kept

    def refresh(self, now_ms: int) -> None:
        """Fetch what is missing up to the last close. Blocks.

        Raises MarketError when the exchange fails or has no newer candle yet; all stays as it was then.
        """
        due_ms = self._interval.last_close_ms(now_ms)
        if self._is_fetched and self.window is not None and self.window.as_of_ms >= due_ms:
            return
        candles = self._own.until(due_ms)
        window = window_of(candles, self._bitcoin.until(due_ms), self._interval)
        if window is None or window.as_of_ms < due_ms:
            raise MarketUnavailable(f"the exchange has no candle of {self._pair} closed at {due_ms} yet")
        self._is_fetched = True
        self.candles, self.window = candles, window


def window_of(candles: Candles, reference: Candles, interval: Interval) -> Window | None:
    """The newest stretch that both have without a gap, or None when there is none."""
    segments = [regular(each, interval, MAX_BRIDGED)[-1:] for each in (candles, reference)]
    if not all(segments):
        return None
    own, bitcoin = (segment[0].candles for segment in segments)
    common = np.intersect1d(own.open_time_ms, bitcoin.open_time_ms)
    if len(common) == 0:
        return None
    return Window(_at(own, common), _at(bitcoin, common), interval)


def _at(candles: Candles, open_time_ms: np.ndarray) -> Candles:
    return candles[np.isin(candles.open_time_ms, open_time_ms)]
