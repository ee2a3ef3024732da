"""Fetches the newest closed candles of one pair, off the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import LiveWindow, Window, shared_bitcoin

_log = logging.getLogger("ray.serve")

# A pool of its own, so that models load and run while the exchange is slow for every pair of the process.
_THREADS = ThreadPoolExecutor(16, thread_name_prefix="market")


class MarketFeed:
    """`problem` says why the newest candles are missing; it is empty when they are not."""

    def __init__(self, pair: Pair, settings: Settings) -> None:
        self._pair = pair
        self._market = LiveWindow(pair, settings, shared_bitcoin(settings))
        self.problem = "starting"

    @property
    def candles(self) -> Candles | None:
        """The newest closed candles, with the market's gaps."""
        return self._market.candles

    @property
    def window(self) -> Window | None:
        """What a model sees: the newest candles without a gap."""
        return self._market.window

    def restore(self, window: Window) -> None:
        """Start from the candles of an earlier process, until the exchange answers."""
        self._market.restore(window)

    async def refresh(self) -> None:
        """Fetch the candles that closed since the last refresh; failures are logged and kept as `problem`."""
        try:
            now_ms = time.time_ns() // 1_000_000
            await asyncio.get_running_loop().run_in_executor(_THREADS, self._market.refresh, now_ms)
        except MakeUsRichError as error:
            _log.warning("%s: no newer candles: %s", self._pair, error)
            self.problem = str(error)
        except Exception as error:  # whatever the exchange sent, the replica keeps serving
            _log.exception("%s: the newest candles cannot be read", self._pair)
            self.problem = repr(error)
        else:
            self.problem = ""
