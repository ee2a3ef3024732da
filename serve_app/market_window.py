"""The newest closed candles of a pair and of BTC, asked for once a candle close."""

from __future__ import annotations

import numpy as np

from make_us_rich.errors import MarketUnavailable
from make_us_rich.intervals import interval_ms, last_close_ms
from make_us_rich.market.binance import Market
from make_us_rich.market.candles import Candles
from make_us_rich.pairs import BITCOIN, Pair
from make_us_rich.settings import Settings
from serve_app.current import Window

# Enough for a chart of three weeks of hours, and for any context length that was worth it.
KEPT = 500


class MarketWindow:
    """`window` is the newest one that could be fetched, or None."""

    def __init__(self, pair: Pair, settings: Settings, kept: Window | None) -> None:
        self._pair = pair
        self._interval = settings.interval
        self._market = Market(settings.exchange_url)
        self.window = kept

    def refresh(self, now_ms: int) -> Window:
        """Fetch what is missing up to the last close. Blocks.

        Raises MarketError when the exchange fails or has no newer candle yet; `window` stays what it was then.
        """
        due_ms = last_close_ms(now_ms, self._interval)
        if self.window is not None and self.window.as_of_ms >= due_ms:
            return self.window
