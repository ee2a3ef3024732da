"""The newest closed candles of a pair and of BTC, asked for once a candle close."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from make_us_rich.errors import MarketUnavailable
from make_us_rich.intervals import interval_ms, last_close_ms
from make_us_rich.market.binance import Market
from make_us_rich.market.candles import Candles
from make_us_rich.pairs import BITCOIN, Pair
from make_us_rich.settings import Settings
from serve_app.current import Window

# Three weeks of hours for a chart, and more than the context of any model that was worth it. One request brings them.
KEPT = 500


class MarketWindow:
    """`window` is the newest one that could be fetched, or None."""

    def __init__(self, pair: Pair, settings: Settings, kept: Window | None) -> None:
        self._pair = pair
        self._interval = settings.interval
        self._step_ms = interval_ms(settings.interval)
        self._market = Market(settings.exchange_url)
        self.window = kept

    def refresh(self, now_ms: int) -> Window:
        """Fetch what is missing up to the last close. Blocks.

        Raises MarketError when the exchange fails or has no newer candle yet; `window` stays as it was then.
        """
        due_ms = last_close_ms(now_ms, self._interval)
        kept = self.window
        if kept is not None and kept.as_of_ms >= due_ms:
            return kept
        candles = self._newest(self._pair, kept and kept.candles, due_ms)
        reference = candles
        if self._pair != BITCOIN:
            reference = self._newest(BITCOIN, kept and kept.reference, due_ms)
        self.window = _aligned(candles, reference, self._interval)
        if self.window.as_of_ms < due_ms:
            raise MarketUnavailable(f"the exchange has no candle of {self._pair} closed at {due_ms} yet")
        return self.window

    def _newest(self, pair: Pair, kept: Candles | None, due_ms: int) -> Candles:
        oldest_ms = due_ms - KEPT * self._step_ms
        start_ms = oldest_ms
        if kept is not None:
            start_ms = max(start_ms, int(kept.open_time_ms[-1]) + self._step_ms)
        fetched = self._market.klines(pair, self._interval, start_ms, due_ms)
        candles = fetched if kept is None else _joined(kept, fetched)
        return candles[candles.open_time_ms >= oldest_ms]


def _aligned(candles: Candles, reference: Candles, interval: str) -> Window:
    common = np.intersect1d(candles.open_time_ms, reference.open_time_ms)
    return Window(_at(candles, common), _at(reference, common), interval)


def _at(candles: Candles, open_time_ms: np.ndarray) -> Candles:
    return candles[np.isin(candles.open_time_ms, open_time_ms)]


def _joined(older: Candles, newer: Candles) -> Candles:
    return Candles(
        *(np.concatenate([getattr(older, f.name), getattr(newer, f.name)]) for f in fields(Candles))
    )
