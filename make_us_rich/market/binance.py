"""The one market client: Binance's public REST API through python-binance, or whatever answers like it.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException, BinanceRequestException

from make_us_rich.errors import MarketError, MarketUnavailable, PairNotTraded, RateLimited
from make_us_rich.intervals import interval_ms
from make_us_rich.market.candles import Candles, closed, from_klines
from make_us_rich.pairs import Pair

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAGE = 1000
_TIMEOUT_S = 10.0
_TRIES = 4
_LONGEST_WAIT_S = 30.0
_INVALID_SYMBOL = -1121
_DEFAULT_RETRY_AFTER_S = 60.0


class Market:
    """An exchange's candles. No key is needed. Raises MarketUnavailable, RateLimited or PairNotTraded."""

    def __init__(self, exchange_url: str) -> None:
        self._client = Client(ping=False, requests_params={"timeout": _TIMEOUT_S})
        self._client.API_URL = f"{exchange_url.rstrip('/')}/api"

    def server_time_ms(self) -> int:
        answer = self._call(self._client.get_server_time)
        return int(_checked(answer, lambda body: body["serverTime"]))

    def traded_pairs(self) -> set[str]:
        """Symbols in the exchange's spelling whose status is TRADING."""
        answer = self._call(self._client.get_exchange_info)
        return _checked(
            answer, lambda body: {item["symbol"] for item in body["symbols"] if item["status"] == "TRADING"}
        )

    def klines(self, pair: Pair, interval: str, start_ms: int, end_ms: int) -> Candles:
        """Candles opened at or after `start_ms` and closed at or before `end_ms`, oldest first, as they came."""
        step = interval_ms(interval)
        rows: list[list[Any]] = []
        cursor = start_ms
        while cursor < end_ms:
            page = self._page(pair, interval, cursor, end_ms - 1)
            rows.extend(page)
            if len(page) < _PAGE:
                break
            cursor = int(page[-1][0]) + step
        return closed(from_klines(rows), interval, end_ms)

    def _page(self, pair: Pair, interval: str, start_ms: int, end_ms: int) -> list[list[Any]]:
        def ask() -> Any:
            return self._client.get_klines(
                symbol=pair.symbol, interval=interval, startTime=start_ms, endTime=end_ms, limit=_PAGE
            )

        return _checked(self._call(ask), _kline_rows)

    def _call(self, ask: Callable[[], Any]) -> Any:
        """Ask again, with growing pauses, what a moment may heal."""
        for attempt in range(1, _TRIES + 1):
            try:
                return ask()
            except (BinanceAPIException, BinanceRequestException, requests.RequestException) as error:
                failure = _translate(error)
            wait_s = _pause_s(failure, attempt)
            if attempt == _TRIES or wait_s is None:
                raise failure
            log.warning("%s: asking again in %.1f s", failure, wait_s)
            time.sleep(wait_s)
        raise AssertionError("unreachable")


def _pause_s(failure: MarketError, attempt: int) -> float | None:
    """Seconds until the next try; None when waiting does not help, or takes too long to sit it out."""
    if isinstance(failure, RateLimited):
        return failure.retry_after_s if failure.retry_after_s <= _LONGEST_WAIT_S else None
    if isinstance(failure, MarketUnavailable):
        return 0.5 * 2.0 ** (attempt - 1) * random.uniform(0.8, 1.2)
    return None


def _translate(error: Exception) -> MarketError:
    if isinstance(error, BinanceAPIException):
        if error.status_code in (418, 429):
            retry_after_s = float(error.response.headers.get("Retry-After", _DEFAULT_RETRY_AFTER_S))
            return RateLimited(
                f"the exchange limits our requests ({error.status_code}) for {retry_after_s:.0f} s",
                retry_after_s=retry_after_s,
            )
        if error.code == _INVALID_SYMBOL:
            return PairNotTraded("the exchange does not know this pair: was it delisted?")
        if error.status_code < 500:
            return MarketError(f"the exchange refused ({error.status_code}): {str(error.message)[:200]}")
        return MarketUnavailable(f"the exchange failed with {error.status_code}")
    if isinstance(error, BinanceRequestException):
        return MarketUnavailable("the exchange's answer is not JSON: cut off, or not from the exchange")
    return MarketUnavailable(f"the exchange cannot be reached: {type(error).__name__}")


def _kline_rows(body: Any) -> list[list[Any]]:
    rows = list(body)
    if any(len(row) < 6 for row in rows):
        raise ValueError
    return rows


def _checked(body: Any, read: Callable[[Any], T]) -> T:
    try:
        return read(body)
    except (KeyError, TypeError, ValueError):
        raise MarketUnavailable(f"the exchange's answer has an unknown form: {str(body)[:100]}") from None
