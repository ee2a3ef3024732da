"""The newest closed candles of a pair and of BTC, asked for once a candle close."""

from __future__ import annotations

import logging

import numpy as np

from make_us_rich.errors import MarketUnavailable
from make_us_rich.forecasting.contract import MAX_BRIDGED
from make_us_rich.intervals import interval_ms, last_close_ms
from make_us_rich.market.binance import Market
from make_us_rich.market.candles import Candles, clean, concatenate, regular
from make_us_rich.pairs import BITCOIN, Pair
from make_us_rich.settings import Settings
from serve_app.current import Window

_log = logging.getLogger("ray.serve")

# What one request brings: six weeks of hours, for a chart and for the 744 candles that a model reads.
KEPT = 1000


class MarketWindow:
    """`candles` are the newest that could be fetched, with their gaps; `window` is what a model sees of them."""

    def __init__(self, pair: Pair, settings: Settings, kept: Window | None) -> None:
        self._pair = pair
        self._interval = settings.interval
        self._market = Market(settings.exchange_url)
        # What an earlier process kept is shown until the exchange answers, and never joined to its answers: it may be
        # of another recording or simulation.
        self._own: Candles | None = None
        self._reference: Candles | None = None
        self.candles = kept.candles if kept else None
        self.window = kept

    def refresh(self, now_ms: int) -> None:
        """Fetch what is missing up to the last close. Blocks.

        Raises MarketError when the exchange fails or has no newer candle yet; all stays as it was then.
        """
        due_ms = last_close_ms(now_ms, self._interval)
        if self._own is not None and self.window is not None and self.window.as_of_ms >= due_ms:
            return
        candles = self._newest(self._pair, self._own, due_ms)
        reference = candles if self._pair == BITCOIN else self._newest(BITCOIN, self._reference, due_ms)
        window = window_of(candles, reference, self._interval)
        if window is None or window.as_of_ms < due_ms:
            raise MarketUnavailable(f"the exchange has no candle of {self._pair} closed at {due_ms} yet")
        self._own, self._reference = candles, reference
        self.candles, self.window = candles, window

    def _newest(self, pair: Pair, kept: Candles | None, due_ms: int) -> Candles:
        step_ms = interval_ms(self._interval)
        oldest_ms = due_ms - KEPT * step_ms
        start_ms = oldest_ms if kept is None else max(oldest_ms, int(kept.open_time_ms[-1]) + step_ms)
        fetched, report = clean(self._market.klines(pair, self._interval, start_ms, due_ms), self._interval)
        if report.rejected:
            _log.warning("%s: %s", pair, report)
        candles = concatenate([kept, fetched] if kept is not None else [fetched])
        return candles[candles.open_time_ms >= oldest_ms]


def window_of(candles: Candles, reference: Candles, interval: str) -> Window | None:
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
