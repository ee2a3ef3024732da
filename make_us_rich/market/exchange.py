"""The one market client: Binance's public REST API through python-binance, or whatever answers like it.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException, BinanceRequestException

from make_us_rich.core.errors import (
    BadCandles,
    LocationRefused,
    MarketError,
    MarketUnavailable,
    PairNotTraded,
    RateLimited,
)
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import BINANCE_DATA_URL
from make_us_rich.market.candles import Candles, closed, from_klines, stack

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAGE = 1000
_TRIES = 4
_LONGEST_WAIT_S = 30.0
_INVALID_SYMBOL = -1121
_DEFAULT_RETRY_AFTER_S = 60.0
_WEIGHT_A_MINUTE = 6000
_WEIGHT_LEFT_TO_OTHERS = 600


class Market:
    """An exchange's candles. No key is needed. Every method raises MarketError.

    A rate limit that ends within `longest_wait_s` is waited for, a longer one is raised as RateLimited.
    """

    def __init__(self, exchange_url: str, *, timeout_s: float = 10.0, longest_wait_s: float = _LONGEST_WAIT_S) -> None:
        self._longest_wait_s = longest_wait_s
        self._client = Client(ping=False, requests_params={"timeout": timeout_s})
        self._client.API_URL = f"{exchange_url.rstrip('/')}/api"

    def server_time_ms(self) -> int:
        return self._call(self._client.get_server_time, lambda body: int(body["serverTime"]))

    def traded_pairs(self) -> set[str]:
        """Symbols in the exchange's spelling whose status is TRADING. On Binance itself an answer of megabytes."""
        return self._call(
            self._client.get_exchange_info,
            lambda body: {item["symbol"] for item in body["symbols"] if item["status"] == "TRADING"},
        )

    def klines(self, pair: Pair, interval: Interval, start_ms: int, end_ms: int) -> Candles:
        """Candles opened at or after `start_ms` and closed at or before `end_ms`, oldest first, as they came.

        Closed means closed by the exchange's own clock too: ours may be ahead of it.
        """
        return stack(list(self.pages(pair, interval, start_ms, end_ms)))

    def pages(self, pair: Pair, interval: Interval, start_ms: int, end_ms: int) -> Iterator[Candles]:
        """The same candles as `klines`, as they arrive: one request and up to 1,000 candles at a time."""
        step = interval.ms
        closed_ms = min(end_ms, self.server_time_ms())
        cursor = start_ms
        while cursor < closed_ms:
            rows = self._page(pair, interval, cursor, closed_ms - 1)
            if not rows:
                return
            try:
                candles = from_klines(rows)
            except BadCandles as error:
                raise MarketUnavailable(f"the exchange's candles of {pair} cannot be read: {error}") from None
            yield closed(candles, interval, closed_ms)
            cursor = max(cursor, *(row[0] for row in rows)) + step

    def _page(self, pair: Pair, interval: Interval, start_ms: int, end_ms: int) -> list[list[Any]]:
        def ask() -> Any:
            return self._client.get_klines(
                symbol=pair.symbol, interval=interval, startTime=start_ms, endTime=end_ms, limit=_PAGE
            )

        return self._call(ask, _kline_rows, about=str(pair))

    def _call(self, ask: Callable[[], Any], read: Callable[[Any], T], about: str = "this pair") -> T:
        """Ask again, with growing pauses, what a moment may heal."""
        for attempt in range(1, _TRIES + 1):
            try:
                answer = _checked(ask(), read)
                self._spare_the_limit()
                return answer
            # python-binance trips over an error body that is JSON but no object: AttributeError
            except (BinanceAPIException, BinanceRequestException, requests.RequestException) as error:
                failure = _translate(error, about)
            except AttributeError:
                failure = MarketUnavailable("the exchange failed with a body that is not its own")
            except MarketUnavailable as error:
                failure = error
            wait_s = _pause_s(failure, attempt, self._longest_wait_s)
            if attempt == _TRIES or wait_s is None:
                raise failure
            log.warning("%s: asking again in %.1f s", failure, wait_s)
            time.sleep(wait_s)
        raise AssertionError("unreachable")

    def _spare_the_limit(self) -> None:
        used = int(self._client.response.headers.get("X-MBX-USED-WEIGHT-1M", 0))
        wait_s = _rest_s(used, time.time())
        if wait_s:
            log.warning("%d of %d request weight used: waiting %.0f s", used, _WEIGHT_A_MINUTE, wait_s)
            time.sleep(wait_s)


def _rest_s(weight_used: int, now_s: float) -> float:
    """Seconds to the next minute once this address has nearly used up its weight: past it lies a ban."""
    return 60 - now_s % 60 if weight_used > _WEIGHT_A_MINUTE - _WEIGHT_LEFT_TO_OTHERS else 0.0


def _pause_s(failure: MarketError, attempt: int, longest_wait_s: float) -> float | None:
    """Seconds until the next try; None when waiting does not help, or takes too long to sit it out."""
    backoff_s = 0.5 * 2.0 ** (attempt - 1) * random.uniform(0.8, 1.2)
    if isinstance(failure, RateLimited):
        return max(failure.retry_after_s, backoff_s) if failure.retry_after_s <= longest_wait_s else None
    return backoff_s if isinstance(failure, MarketUnavailable) else None


def _translate(error: Exception, about: str) -> MarketError:
    if isinstance(error, BinanceAPIException):
        if error.status_code in (418, 429):
            retry_after_s = _retry_after_s(error.response)
            return RateLimited(
                f"the exchange limits our requests ({error.status_code}) for {retry_after_s:.0f} s",
                retry_after_s=retry_after_s,
            )
        if error.status_code == 451:
            return LocationRefused(
                "Binance refuses requests from this country or cloud (HTTP 451): "
                f"set MUR_EXCHANGE_URL={BINANCE_DATA_URL}, its host of public market data"
            )
        if error.code == _INVALID_SYMBOL:
            return PairNotTraded(f"the exchange does not know {about}: was it delisted?")
        if error.status_code < 500:
            return MarketError(f"the exchange refused ({error.status_code}): {str(error.message)[:200]}")
        return MarketUnavailable(f"the exchange failed with {error.status_code}")
    if isinstance(error, BinanceRequestException):
        return MarketUnavailable("the exchange's answer is not JSON: cut off, or not from the exchange")
    return MarketUnavailable(f"the exchange cannot be reached: {type(error).__name__}")


def _retry_after_s(response: requests.Response) -> float:
    try:
        return float(response.headers["Retry-After"])
    except (KeyError, ValueError):  # absent, or a date
        return _DEFAULT_RETRY_AFTER_S


def _kline_rows(body: Any) -> list[list[Any]]:
    if not isinstance(body, list) or any(len(row) < 6 or not isinstance(row[0], int) for row in body):
        raise ValueError
    return body


def _checked(body: Any, read: Callable[[Any], T]) -> T:
    try:
        return read(body)
    except (KeyError, TypeError, ValueError):
        raise MarketUnavailable(f"the exchange's answer has an unknown form: {str(body)[:100]}") from None
