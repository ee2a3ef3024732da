"""The client of the exchange: Binance's public REST API, or any server that speaks it, through python-binance.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api
"""

from __future__ import annotations

import logging
import random
import re
import reprlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

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
    UnknownPair,
)
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.responses import UNEXPECTED, read_retry_after
from make_us_rich.core.settings import BINANCE_DATA_URL
from make_us_rich.core.times import is_possible
from make_us_rich.market.candles import HIGHEST_PRICE, HIGHEST_VOLUME, Candles, closed, concatenate, from_klines
from make_us_rich.market.limited_http import Limits, limit_session

_log = logging.getLogger(__name__)

T = TypeVar("T")

_PAGE = 1000
_LISTED = ("symbol", "status", "baseAsset", "quoteAsset")
_MAX_ATTEMPTS = 4
_FIRST_RETRY_S = 0.5
_MAX_QUOTED_CHARS = 200
_MAX_WAIT_S = 30.0
_INVALID_SYMBOL = -1121
_DEFAULT_RETRY_AFTER_S = 60.0
_CLOCK_EXPIRY_S = 900.0
_WEIGHT_PER_MINUTE = 6000
_WEIGHT_RESERVE = 600  # left to other clients behind the same address


class ListedPair(NamedTuple):
    """A pair that the exchange lists; `traded` is False for a halted or delisted one, whose candles remain."""

    pair: Pair
    traded: bool


class Week(NamedTuple):
    """The extremes of a week from Monday 00:00 UTC, and its volume, all in the quote currency."""

    high: float
    low: float
    quote_volume: float


@dataclass
class ExchangeUsage:
    """What a client used so far. `weight`: all of this address in the last minute, as the exchange counts it."""

    requests: int = 0
    received_bytes: int = 0  # uncompressed
    weight: int = 0

    def __str__(self) -> str:
        received = f"{self.received_bytes / 1e6:.1f} MB"
        return f"{self.requests} requests, {received}, {self.weight} of {_WEIGHT_PER_MINUTE} request weight this minute"


class ExchangeClock:
    """Estimates the exchange's clock from its last answer and our monotonic clock."""

    def __init__(self) -> None:
        self._answer: tuple[int, float] | None = None

    def note(self, server_time_ms: int) -> None:
        """Note the time that the exchange has just answered with."""
        self._answer = server_time_ms, time.monotonic()

    def has_passed(self, time_ms: int) -> bool:
        """Return whether that time is certainly past. False when the last answer is old, because clocks drift apart."""
        if self._answer is None:
            return False
        answered_ms, since_s = self._answer
        elapsed_s = time.monotonic() - since_s
        return elapsed_s < _CLOCK_EXPIRY_S and answered_ms + elapsed_s * 1000 >= time_ms


class ExchangeClient:
    """Reads candles from the exchange; needs no API key. Every method raises MarketError.

    Sleeps through a rate limit that ends within `max_wait_s`, and raises RateLimited for a longer one. Clients that
    share a `clock` do not each ask the exchange for its time.
    """

    def __init__(
        self,
        exchange_url: str,
        *,
        timeout_s: float = 10.0,
        max_wait_s: float = _MAX_WAIT_S,
        clock: ExchangeClock | None = None,
        limits: Limits = Limits(),  # noqa: B008  (frozen)
    ) -> None:
        self.usage = ExchangeUsage()
        self._clock = clock or ExchangeClock()
        self._max_wait_s = max_wait_s
        self._paused_until_s = 0.0
        self._client = Client(ping=False, requests_params={"timeout": timeout_s, "allow_redirects": False})
        limit_session(self._client.session, limits)
        self._client.API_URL = f"{exchange_url.rstrip('/')}/api"

    def server_time_ms(self) -> int:
        """Return the exchange's clock."""
        server_time_ms = self._call(self._client.get_server_time, _server_time_ms)
        self._clock.note(server_time_ms)
        return server_time_ms

    def traded_pairs(self) -> set[str]:
        """Return the symbols with status TRADING, in the exchange's spelling. Binance's response has megabytes."""
        return {item["symbol"] for item in self._symbols() if item["status"] == "TRADING"}

    def listed_pairs(self, quote: str) -> list[ListedPair]:
        """Return the pairs priced in `quote`, also those that are not traded any more.

        Leaves out a coin whose name our spelling cannot express, such as a Chinese one.
        """
        found = []
        for item in self._symbols():
            if item["quoteAsset"] == quote.upper():
                with suppress(UnknownPair):
                    pair = Pair.parse(f"{item['baseAsset'].lower()}_{quote}")
                    found.append(ListedPair(pair, item["status"] == "TRADING"))
        return found

    def _symbols(self) -> list[dict[str, Any]]:
        def request() -> Any:
            # python-binance's get_exchange_info cannot leave out the permissions, most of the response
            query = {"showPermissionSets": "false"}
            return self._client._get("exchangeInfo", data=query)

        return self._call(request, _listed_symbols)

    def weeks(self, pair: Pair, start_ms: int, end_ms: int) -> list[Week]:
        """Fetch the weeks that began at or after `start_ms` and ended at or before `end_ms`, at most 1,000."""

        def request() -> Any:
            return self._client.get_klines(
                symbol=pair.symbol, interval="1w", startTime=start_ms, endTime=end_ms - 1, limit=_PAGE
            )

        def read(body: Any) -> list[Week]:
            found = [Week(*(float(row[n]) for n in (2, 3, 7))) for row in _kline_rows(body) if row[6] < end_ms]
            return [week for week in found if _is_possible(week)]

        return self._call(request, read, about=str(pair))

    def klines(self, pair: Pair, interval: Interval, start_ms: int, end_ms: int) -> Candles:
        """Fetch the candles opened at or after `start_ms` and closed at or before `end_ms`, oldest first, uncleaned.

        Closed means closed by the exchange's clock too: ours may be ahead of it.
        """
        return concatenate(list(self.pages(pair, interval, start_ms, end_ms)))

    def pages(self, pair: Pair, interval: Interval, start_ms: int, end_ms: int) -> Iterator[Candles]:
        """Yield the candles of `klines` page by page: one request, up to 1,000 candles."""
        step = interval.ms
        closed_ms = end_ms if self._clock.has_passed(end_ms) else min(end_ms, self.server_time_ms())
        cursor = start_ms
        requests_left = _most_requests(start_ms, closed_ms, step)
        while cursor < closed_ms:
            if not requests_left:
                raise MarketUnavailable(f"the exchange answers with too few candles of {pair} for each request")
            requests_left -= 1
            rows = self._page(pair, interval, cursor, closed_ms - 1)
            if not rows:
                return
            try:
                candles = from_klines(rows)
            except BadCandles as error:
                raise MarketUnavailable(f"the exchange's candles of {pair} cannot be read: {error}") from None
            if candles.open_time_ms.max() < cursor:
                raise MarketUnavailable(f"the exchange answers with candles of {pair} of another time")
            yield closed(candles[candles.open_time_ms >= cursor], interval, closed_ms)
            cursor = max(row[0] for row in rows) + step

    def _page(self, pair: Pair, interval: Interval, start_ms: int, end_ms: int) -> list[list[Any]]:
        def request() -> Any:
            return self._client.get_klines(
                symbol=pair.symbol, interval=interval, startTime=start_ms, endTime=end_ms, limit=_PAGE
            )

        return self._call(request, _kline_rows, about=str(pair))

    def _call(self, request: Callable[[], Any], read: Callable[[Any], T], about: str = "this pair") -> T:
        """Retry transient errors with exponential backoff."""
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                self._throttle()
                result = _parse(request(), read)
                self._note_usage()
                return result
            except (BinanceAPIException, BinanceRequestException, requests.RequestException) as error:
                failure = _translate(error, about)
            except MarketUnavailable as error:
                failure = error
            except UNEXPECTED as error:  # python-binance and requests also read answers of other servers
                failure = MarketUnavailable(f"the exchange's response cannot be read: {type(error).__name__}")
            wait_s = _retry_wait_s(failure, attempt, self._max_wait_s)
            if attempt == _MAX_ATTEMPTS or wait_s is None:
                raise failure
            _log.warning("%s: retrying in %.1f s", failure, wait_s)
            time.sleep(wait_s)
        raise AssertionError("unreachable")

    def _throttle(self) -> None:
        """Sleep to the next minute if the last answer said that this one's request weight is nearly used up.

        Exceeding it means a ban. The wait comes before a request, so that no answer is held back.
        """
        now_s = time.time()
        if now_s < self._paused_until_s:
            wait_s = self._paused_until_s - now_s
            _log.warning("%d of %d request weight used: waiting %.0f s", self.usage.weight, _WEIGHT_PER_MINUTE, wait_s)
            time.sleep(wait_s)

    def _note_usage(self) -> None:
        response = self._client.response
        used = _used_weight(response)
        self.usage.requests += 1
        self.usage.received_bytes += len(response.content)
        self.usage.weight = used
        now_s = time.time()
        self._paused_until_s = now_s + _throttle_wait_s(used, now_s)


def _throttle_wait_s(weight_used: int, now_s: float) -> float:
    return 60 - now_s % 60 if weight_used > _WEIGHT_PER_MINUTE - _WEIGHT_RESERVE else 0.0


def _retry_wait_s(failure: MarketError, attempt: int, max_wait_s: float) -> float | None:
    """Return the seconds until the next attempt; None when a retry cannot help or the wait is too long."""
    backoff_s = _FIRST_RETRY_S * 2.0 ** (attempt - 1) * random.uniform(0.8, 1.2)
    if isinstance(failure, RateLimited):
        return max(failure.retry_after_s, backoff_s) if failure.retry_after_s <= max_wait_s else None
    return backoff_s if isinstance(failure, MarketUnavailable) else None


def _translate(error: Exception, about: str) -> MarketError:
    if isinstance(error, BinanceAPIException):
        if error.status_code in (418, 429):
            retry_after_s = _retry_after_s(error)
            return RateLimited(
                f"the exchange limits our requests ({error.status_code}) for {retry_after_s:.0f} s",
                retry_after_s=retry_after_s,
            )
        if error.status_code == 403:
            return RateLimited(
                f"the exchange's firewall blocks this address (403): no request for {_DEFAULT_RETRY_AFTER_S:.0f} s",
                retry_after_s=_DEFAULT_RETRY_AFTER_S,
            )
        if error.status_code == 407:
            return MarketError("a proxy between here and the exchange wants a log-in (407): see HTTPS_PROXY")
        if error.status_code == 451:
            return LocationRefused(
                "Binance refuses requests from this country or cloud (HTTP 451): "
                f"set MUR_EXCHANGE_URL={BINANCE_DATA_URL}, its host of public market data"
            )
        if 300 <= error.status_code < 400:
            return MarketUnavailable(
                f"the exchange redirects ({error.status_code}), which is not followed: set MUR_EXCHANGE_URL to the "
                "address of its API; a log-in page of this network may also answer for it"
            )
        if error.code == _INVALID_SYMBOL:
            return PairNotTraded(f"the exchange does not know {about}: was it delisted?")
        if error.status_code < 500:
            reason = "with a page of no known form" if error.code == 0 else _quoted(error.message)
            return MarketError(f"the exchange refused ({error.status_code}): {reason}")
        return MarketUnavailable(f"the exchange failed with {error.status_code}")
    if isinstance(error, BinanceRequestException):
        return MarketUnavailable("the exchange's response is not JSON: truncated, or from another server")
    return MarketUnavailable(f"the exchange cannot be reached: {type(error).__name__}")


def _retry_after_s(error: BinanceAPIException) -> float:
    """Return the seconds until a ban ends, from the header, else from the text, else a default."""
    wait_s = read_retry_after(error.response.headers.get("Retry-After"))
    if wait_s is not None:
        return wait_s
    banned = re.search(r"banned until (\d{13})\b", str(error.message))
    return max(0.0, int(banned[1]) / 1000 - time.time()) if banned else _DEFAULT_RETRY_AFTER_S


def _used_weight(response: requests.Response) -> int:
    try:
        return int(response.headers["X-MBX-USED-WEIGHT-1M"])
    except (KeyError, ValueError):
        return 0


def _most_requests(start_ms: int, end_ms: int, step_ms: int) -> int:
    """Return how many requests the candles of a time may need: twice the full pages, because some have missing rows."""
    pages = -(-max(0, end_ms - start_ms) // (step_ms * _PAGE))
    return 2 * pages + 2


def _server_time_ms(body: Any) -> int:
    time_ms = int(body["serverTime"])
    if not is_possible(time_ms):
        raise ValueError
    return time_ms


def _is_possible(week: Week) -> bool:
    return 0 < week.low <= week.high <= HIGHEST_PRICE and 0 <= week.quote_volume <= HIGHEST_VOLUME


def _listed_symbols(body: Any) -> list[dict[str, Any]]:
    symbols = body["symbols"]
    if not all(isinstance(item[name], str) for item in symbols for name in _LISTED):
        raise ValueError
    return list(symbols)


def _kline_rows(body: Any) -> list[list[Any]]:
    if not isinstance(body, list) or any(len(row) < 6 or not isinstance(row[0], int) for row in body):
        raise ValueError
    return body


def _parse(body: Any, read: Callable[[Any], T]) -> T:
    try:
        return read(body)
    except UNEXPECTED:
        raise MarketUnavailable(f"the exchange's response has an unknown form: {_quoted(body)}") from None


def _quoted(value: Any) -> str:
    """Return the beginning of what the exchange sent, on one line and without control characters."""
    text = value if isinstance(value, str) else reprlib.repr(value)
    printable = (char if char.isprintable() else " " for char in text[:_MAX_QUOTED_CHARS])
    return "".join(printable)
