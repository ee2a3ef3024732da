"""The newest closed candles of a series and of BTC, fetched at each candle close and checked once more after it."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from make_us_rich.core.errors import MarketUnavailable
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms
from make_us_rich.market.bridges import bridge_gaps, extend_back
from make_us_rich.market.candles import MAX_BRIDGED, Candles, break_text, clean, closed, merge, regular_segments
from make_us_rich.market.exchange import ExchangeClient, ExchangeClock

_log = logging.getLogger("ray.serve")

WINDOW_CANDLES = 1000
"""Candles that are kept: what one request returns, enough for a chart and for the 744 hours that a model reads."""
MOST_WINDOW_CANDLES = 1500
"""The same for candles below an hour, of which a model reads 1,368."""
_EARLY_MS = 5000  # our clock may be behind the exchange's


def window_candles(interval: Interval) -> int:
    """Return how many candles of an interval are kept, which is also how many a caller may ask for or send."""
    return WINDOW_CANDLES if interval.ms >= HOUR_MS else MOST_WINDOW_CANDLES


@dataclass(frozen=True, eq=False)
class Window:
    """The newest closed candles of a pair, on the grid, and BTC's of the same hours; oldest first.

    bridged_until_ms: the end of the newest long gap, whose candles were made up; 0 for none. See bridges.py.
    """

    candles: Candles
    reference: Candles
    interval: Interval
    bridged_until_ms: int = 0

    @property
    def as_of_ms(self) -> int:
        """Close of the newest candle."""
        return int(self.candles.open_time_ms[-1]) + self.interval.ms

    def at_least(self, count: int) -> Window:
        """Return the window with `count` candles or more, made up before the first one. Raises NotEnoughHistory."""
        if len(self.candles) >= count:
            return self
        own, bitcoin = (extend_back(each, self.interval, count) for each in (self.candles, self.reference))
        return Window(own, bitcoin, self.interval, max(self.bridged_until_ms, int(self.candles.open_time_ms[0])))

    def is_bridged(self, count: int) -> bool:
        """Return whether candles among the newest `count` were made up."""
        return self.bridged_until_ms > int(self.candles.open_time_ms[-count:][0])

    def equals(self, other: Window) -> bool:
        """Return whether all candles are the same."""
        mine, others = (self.candles, self.reference), (other.candles, other.reference)
        return all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for a, b in zip(mine, others, strict=True)
            for name in vars(a)
        )


class NewestCandles:
    """The newest candles of a series, cached until the next close. Single-flight: concurrent calls share a request.

    A candle that was pushed, or that was the newest of an answer, may be wrong or not final: `check` fetches it once
    more, or else the request at the next close does.
    """

    def __init__(self, series: Series, settings: Settings) -> None:
        self._pair, self._interval = series
        self._count = window_candles(self._interval)
        self._exchange = ExchangeClient(settings.exchange_url, clock=_shared_clock(settings.exchange_url))
        self._lock = threading.Lock()
        self._checking = threading.Lock()
        self._cached: Candles | None = None
        self._unchecked: set[int] = set()  # open times of cached candles that will be fetched once more
        self._in_flight: Future[Candles] | None = None

    def closed_by(self, due_ms: int) -> Candles:
        """Return the newest candles that closed by `due_ms`, oldest first: up to that close if the exchange has it.

        Blocks while it fetches. Raises MarketError.
        """
        with self._lock:
            if self.newest_close_ms > due_ms + self._interval.ms:  # our clock was ahead when they were added
                self._cached = None
                self._unchecked.clear()
            if self._cached is not None and self.newest_close_ms >= due_ms:
                return closed(self._cached, self._interval, due_ms)
            running = self._in_flight
            request = self._in_flight = running or Future()
        if running is None:
            self._fetch(request, due_ms)
        return closed(request.result(), self._interval, due_ms)

    def check(self, due_ms: int) -> Candles:
        """Return the candles that closed by `due_ms` after fetching the unchecked ones again. Raises MarketError."""
        with self._checking:
            if self._unchecked:
                fetched = self._newer(min(due_ms, self.newest_close_ms))
                with self._lock:
                    self._keep_fetched(fetched)
        return self.closed_by(due_ms)

    def _fetch(self, request: Future[Candles], due_ms: int) -> None:
        try:
            fetched = self._newer(due_ms)
        except BaseException as error:
            with self._lock:
                self._in_flight = None
            request.set_exception(error)
        else:
            with self._lock:
                candles = self._keep_fetched(fetched)
                self._unchecked.update(fetched.open_time_ms[-1:].tolist())
                self._in_flight = None
            request.set_result(candles)

    def _newer(self, due_ms: int) -> Candles:
        step_ms, cached = self._interval.ms, self._cached
        oldest_ms = due_ms - self._count * step_ms
        if cached is None:
            start_ms = oldest_ms
        else:
            start_ms = max(oldest_ms, min(self._unchecked, default=int(cached.open_time_ms[-1]) + step_ms))
        fetched, report = clean(self._exchange.klines(self._pair, self._interval, start_ms, due_ms), self._interval)
        if report.rejected:
            _log.warning("%s: %s", self._pair, report)
        return fetched

    def _keep_fetched(self, fetched: Candles) -> Candles:
        """Keep candles of the exchange's REST API, which are right where they differ. The caller holds the lock."""
        if self._cached is not None:
            revised = _differences(self._cached, fetched)
            if revised:
                _log.warning("%s: the exchange revised the candles of %s", self._pair, revised)
        self._unchecked.difference_update(fetched.open_time_ms.tolist())
        return self._keep(fetched)

    def _keep(self, newer: Candles) -> Candles:
        """Merge newer candles into the cache and drop those that are too old. The caller holds the lock."""
        candles = merge([self._cached, newer] if self._cached is not None else [newer])
        if len(candles):
            oldest_ms = int(candles.open_time_ms[-1]) - (self._count - 1) * self._interval.ms
            self._cached = candles = candles[candles.open_time_ms >= oldest_ms]
            self._unchecked = {time_ms for time_ms in self._unchecked if time_ms >= oldest_ms}
        return candles

    def add(self, pushed: Candles, *, now_ms: int) -> None:
        """Add a closed candle that the exchange pushed, if it is the next one; any other is left to `closed_by`.

        A candle that closes more than _EARLY_MS from now cannot have closed, and is refused.
        """
        if int(pushed.open_time_ms[-1]) + self._interval.ms > now_ms + _EARLY_MS:
            _log.warning("%s: the exchange pushed a candle that has not closed; it is not used", self._pair)
            return
        with self._lock:
            if self._cached is not None:
                valid, _ = clean(pushed, self._interval)
                following = valid[valid.open_time_ms == self._cached.open_time_ms[-1] + self._interval.ms]
                self._unchecked.update(following.open_time_ms.tolist())
                self._keep(following)

    @property
    def newest_close_ms(self) -> int:
        """Close of the newest candle; 0 before the first one was fetched."""
        cached = self._cached
        return 0 if cached is None else int(cached.open_time_ms[-1]) + self._interval.ms


@cache
def _shared_clock(exchange_url: str) -> ExchangeClock:
    return ExchangeClock()


@cache
def shared_bitcoin(interval: Interval, settings: Settings) -> NewestCandles:
    """Return the process-wide cache of BTC's candles, which the model of every pair reads."""
    return NewestCandles(Series(BITCOIN, interval), settings)


class LiveWindow:
    """The window of a series, refreshed from the exchange.

    `candles` are the newest that could be fetched, with their gaps; `window` is the part that a model reads.
    """

    def __init__(self, series: Series, settings: Settings, bitcoin: NewestCandles) -> None:
        self._pair, self._interval = series
        self._bitcoin = bitcoin
        self._own = bitcoin if self._pair == BITCOIN else NewestCandles(series, settings)
        self._is_fetched = False
        self._noted = ""
        self.candles: Candles | None = None
        self.window: Window | None = None

    def add(self, pair: Pair, pushed: Candles) -> int | None:
        """Add a closed candle of the pair or of BTC that the exchange pushed. Returns its close if both now have it."""
        (self._own if pair == self._pair else self._bitcoin).add(pushed, now_ms=current_ms())
        close_ms = int(pushed.open_time_ms[-1]) + self._interval.ms
        return close_ms if self._own.newest_close_ms == self._bitcoin.newest_close_ms == close_ms else None

    def restore(self, saved: Window) -> None:
        """Use the window that an earlier process saved until the exchange responds.

        It is never merged with candles from the exchange: it may come from another recording or simulation.
        """
        self.candles, self.window = saved.candles, saved

    def refresh(self, now_ms: int) -> None:
        """Fetch the missing candles up to the last close. Blocks.

        Raises MarketError when the exchange fails or has no newer candle yet; the window then stays as it was.
        """
        due_ms = self._interval.last_close_ms(now_ms)
        if self._is_fetched and self.window is not None and self.window.as_of_ms >= due_ms:
            return
        candles = self._own.closed_by(due_ms)
        window = _bridged_window(candles, self._bitcoin.closed_by(due_ms), self._interval)
        if window is None or window.as_of_ms < due_ms:
            raise MarketUnavailable(f"the exchange has no candle of {self._pair} closed at {due_ms} yet")
        self._is_fetched = True
        self.candles, self.window = candles, window
        note = break_text(candles)
        if note and note.partition(", and ")[0] != self._noted:
            self._noted = note.partition(", and ")[0]  # the rest counts the candles since
            _log.warning("%s: %s", self._pair, note)

    def check(self, now_ms: int) -> bool:
        """Fetch once more what was pushed or was the newest. Returns True when that changed the window. Blocks.

        Raises MarketError; the next check or refresh then fetches these candles too.
        """
        due_ms = self._interval.last_close_ms(now_ms)
        if not self._is_fetched or self.window is None:
            return False
        candles = self._own.check(due_ms)
        window = _bridged_window(candles, self._bitcoin.check(due_ms), self._interval)
        if window is None or window.as_of_ms < self.window.as_of_ms or window.equals(self.window):
            return False
        self.candles, self.window = candles, window
        return True


def _bridged_window(candles: Candles, reference: Candles, interval: Interval) -> Window | None:
    """Return the newest stretch that both have in common, over gaps of up to three days of hours."""
    (own, own_until_ms), (bitcoin, until_ms) = (bridge_gaps(each, interval) for each in (candles, reference))
    window = common_window(own, bitcoin, interval)
    return window and replace(window, bridged_until_ms=max(own_until_ms, until_ms))


def common_window(candles: Candles, reference: Candles, interval: Interval) -> Window | None:
    """Return the newest gap-free stretch that both have in common; None when there is none."""
    segments = [regular_segments(each, interval, MAX_BRIDGED)[-1:] for each in (candles, reference)]
    if not all(segments):
        return None
    own, bitcoin = (segment[0].candles for segment in segments)
    first_ms = max(own.open_time_ms[0], bitcoin.open_time_ms[0])
    last_ms = min(own.open_time_ms[-1], bitcoin.open_time_ms[-1])
    if first_ms > last_ms:
        return None
    return Window(_between(own, first_ms, last_ms), _between(bitcoin, first_ms, last_ms), interval)


def _differences(known: Candles, fetched: Candles) -> list[int]:
    """Return the open times of the candles that both have with other numbers."""
    both, rows, fetched_rows = np.intersect1d(known.open_time_ms, fetched.open_time_ms, return_indices=True)
    differ = [getattr(known, name)[rows] != column[fetched_rows] for name, column in vars(fetched).items()]
    times: list[int] = both[np.any(differ, axis=0)].tolist()
    return times


def _between(candles: Candles, first_ms: int, last_ms: int) -> Candles:
    return candles[(candles.open_time_ms >= first_ms) & (candles.open_time_ms <= last_ms)]
