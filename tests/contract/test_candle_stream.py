"""Candles that the real replay exchange pushes over its websocket, and what a replica makes of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import time_ns as real_time_ns
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr, ValidationError
from websockets.asyncio.server import ServerConnection, serve

from infra.exchange import streams
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.market import stream
from make_us_rich.market.candles import Candles
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.stream import CandleStream
from serve_app.replica import updater
from serve_app.replica.forecast import ForecastSnapshot
from serve_app.replica.forecaster import Forecaster
from serve_app.replica.models import ModelCache
from tests.support.forecasts import make_forecast
from tests.support.processes import free_port

ETH, BTC = Series(Pair("eth", "usdt"), Interval.H1), Series(BITCOIN, Interval.H1)


@pytest.fixture(autouse=True)
def lively_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exchange sends an open candle every fifth of a second, and clients connect again as soon."""
    monkeypatch.setattr(streams, "_BETWEEN_UPDATES_S", 0.2)
    monkeypatch.setattr(stream, "_BETWEEN_CONNECTIONS_S", (0.1, 0.2))


class Exchange:
    """The replay exchange, whose clock and this process's are stopped and moved."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = url
        self.stream_url = url.replace("http", "ws", 1)
        self._monkeypatch = monkeypatch

    def stop_clocks(self, before_close_s: float) -> int:
        """Stop the clocks so many seconds before the next close; returns it."""
        close_ms = Interval.H1.last_close_ms(real_time_ns() // 1_000_000) + HOUR_MS
        self._set_clocks(close_ms - int(before_close_s * 1000))
        return close_ms

    def next_close(self) -> int:
        """Move the stopped clocks to the next close; returns it."""
        close_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000) + HOUR_MS
        self._set_clocks(close_ms)
        return close_ms

    def _set_clocks(self, now_ms: int) -> None:
        self.control("clock", {"offset_ms": now_ms - real_time_ns() // 1_000_000, "speed": 0})
        self._monkeypatch.setattr(time, "time_ns", lambda: now_ms * 1_000_000)

    def control(self, path: str, change: dict[str, Any]) -> None:
        httpx.post(f"{self.url}/_control/{path}", json=change, timeout=60).raise_for_status()

    def set_fault(self, kind: str) -> None:
        self.control("faults", {"kind": kind})

    def clear_faults(self) -> None:
        httpx.delete(f"{self.url}/_control/faults", timeout=60).raise_for_status()

    def forget_requests(self) -> None:
        httpx.delete(f"{self.url}/_control/usage", timeout=60).raise_for_status()

    def requests(self) -> int:
        return int(httpx.get(f"{self.url}/_control/usage", timeout=60).json()["requests"])


@pytest.fixture
def exchange(exchange_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    made = Exchange(exchange_url, monkeypatch)
    made.stop_clocks(60)
    yield made
    made.clear_faults()
    made.control("clock", {"offset_ms": 0, "speed": 1})


class Listener:
    """Notes what a stream sends: of each message the series, and whether its candle is closed."""

    def __init__(self, listened: CandleStream, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard: list[tuple[str, bool]] = []
        self._deliver = listened._deliver
        monkeypatch.setattr(listened, "_deliver", self._note)

    def _note(self, text: str | bytes) -> None:
        with suppress(ValueError, KeyError):  # an answer to a request has no candle
            message = json.loads(text)
            self.heard.append((message["stream"], message["data"]["k"]["x"]))
        self._deliver(text)

    async def until_sent(self, *series: Series) -> None:
        """Wait until the exchange sends these, because a subscription has no other sign."""
        wanted = {stream._stream_name(each) for each in series}
        await until(lambda: wanted <= {name for name, _ in self.heard})

    def closed(self) -> list[str]:
        return [name for name, closed in self.heard if closed]


@asynccontextmanager
async def subscribed(exchange: Exchange, *series: Series) -> AsyncIterator[tuple[CandleStream, asyncio.Queue[Candles]]]:
    candles: asyncio.Queue[Candles] = asyncio.Queue()
    made = CandleStream(exchange.stream_url)
    for each in series:
        made.subscribe(each, candles.put_nowait)
    try:
        yield made, candles
    finally:
        await made.close()


async def until(done: Callable[[], bool], timeout_s: float = 180.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not done():
            await asyncio.sleep(0.05)


def test_a_candle_is_pushed_when_it_has_closed_as_the_exchange_answers_it_afterwards(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first_candles() -> tuple[int, list[Candles]]:
        async with subscribed(exchange, ETH, BTC) as (opened, candles):
            await Listener(opened, monkeypatch).until_sent(ETH, BTC)
            assert candles.empty(), "an open candle was delivered"
            close_ms = exchange.next_close()
            return close_ms, [await asyncio.wait_for(candles.get(), 180) for _ in range(2)]

    close_ms, pushed = asyncio.run(first_candles())

    for pair in (ETH.pair, BITCOIN):
        (asked,) = [ExchangeClient(exchange.url).klines(pair, Interval.H1, close_ms - HOUR_MS, close_ms)]
        assert any(_columns(candle) == _columns(asked) for candle in pushed), pair


@pytest.mark.parametrize("kind", ["stream_closed", "stream_silent", "stream_truncated"])
def test_after_a_fault_of_the_stream_candles_arrive_again(
    exchange: Exchange, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "stream_silent":  # a busy machine must not take the others for silent
        monkeypatch.setattr(stream, "_SILENCE_S", 2.0)
    noticed = {
        "stream_closed": "ended, connecting again: ConnectionClosed",
        "stream_silent": "ended, connecting again: TimeoutError",
        "stream_truncated": "sent what cannot be read",
    }[kind]

    async def candle_after_the_fault() -> Candles:
        async with subscribed(exchange, ETH) as (opened, candles):
            listener = Listener(opened, monkeypatch)
            await listener.until_sent(ETH)
            exchange.set_fault(kind)
            await until(lambda: noticed in caplog.text)
            listener.heard.clear()
            exchange.clear_faults()
            await listener.until_sent(ETH)
            exchange.next_close()
            return await asyncio.wait_for(candles.get(), 180)

    assert len(asyncio.run(candle_after_the_fault())) == 1


def test_a_series_without_listeners_is_not_sent_any_more(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    ether, bitcoin = stream._stream_name(ETH), stream._stream_name(BTC)

    async def sent_at_closes(listener: Listener, enough: Callable[[list[str]], bool]) -> None:
        """Let one hour after the other close until enough was sent."""
        listener.heard.clear()
        async with asyncio.timeout(180):
            while not enough(listener.closed()):
                await close_an_hour(listener)

    async def close_an_hour(listener: Listener) -> None:
        before = len(listener.closed())
        exchange.next_close()
        await until(lambda: len(listener.closed()) > before)

    async def unsubscribe_from_one() -> None:
        async with subscribed(exchange, BTC) as (opened, _):
            unsubscribe = opened.subscribe(ETH, lambda candle: None)
            listener = Listener(opened, monkeypatch)
            await listener.until_sent(ETH, BTC)
            await sent_at_closes(listener, lambda names: names[-4:] == [bitcoin, ether] * 2)
            unsubscribe()
            await sent_at_closes(listener, lambda names: names[-4:] == [bitcoin] * 4)

    asyncio.run(unsubscribe_from_one())


def test_odd_messages_and_a_listener_that_fails_keep_no_candle_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kline = {"t": 1_700_000_000_000, "o": "1", "h": "2", "l": "0.5", "c": "1.5", "v": "3", "x": True}
    good = {"stream": "ethusdt@kline_1h", "data": {"e": "kline", "k": kline}}
    odd = ["no JSON", "[]", "null", b"\xff", {"data": 1}, {"error": {"code": 2, "msg": "Invalid request"}}]
    odd += [good | {"data": {"k": kline | change}} for change in ({"t": 10**30}, {"c": None}, {"x": False})]
    odd += [{"stream": "ethusdt@kline_1h", "data": {"e": "serverShutdown"}}, good | {"stream": "of_nobody"}]

    async def send(connection: ServerConnection) -> None:
        await connection.recv()
        for message in [*odd, good]:
            await connection.send(json.dumps(message) if isinstance(message, dict) else message)
        await connection.wait_closed()

    def fail(candle: Candles) -> None:
        raise ZeroDivisionError

    async def received() -> list[Candles]:
        candles: asyncio.Queue[Candles] = asyncio.Queue()
        async with serve(send, "127.0.0.1", port := free_port()):
            opened = CandleStream(f"ws://127.0.0.1:{port}")
            opened.subscribe(ETH, fail)
            opened.subscribe(ETH, candles.put_nowait)
            first = await asyncio.wait_for(candles.get(), 20)
            await opened.close()
            return [first, *(candles.get_nowait() for _ in range(candles.qsize()))]

    (candle,) = asyncio.run(received())

    assert (candle.open_time_ms.tolist(), candle.close.tolist()) == ([kline["t"]], [1.5])
    assert caplog.text.count("sent what cannot be read") == 1
    assert "refused a request" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_the_address_of_the_stream_is_a_websockets() -> None:
    with pytest.raises(ValidationError, match="exchange_stream_url"):
        Settings(exchange_stream_url="https://data-stream.binance.vision")


@pytest.fixture
def settings(exchange: Exchange, database_url: str, tmp_path: Path) -> Settings:
    made = Settings(
        market="simulated",
        exchange_url=exchange.url,
        exchange_stream_url=exchange.stream_url,
        database_url=SecretStr(database_url),
        cache_folder=str(tmp_path),
    )
    kept = make_forecast(ETH.pair, as_of_ms=time.time_ns() // 1_000_000)
    ForecastSnapshot(tmp_path, ETH, made.market).save(kept)
    return made


async def _requests_of_a_forecast(
    exchange: Exchange, settings: Settings, monkeypatch: pytest.MonkeyPatch, *, before_close_s: float, fault: str = ""
) -> int:
    """Let a replica forecast after a close; return its requests to the exchange since the close."""
    stream.shared_stream.cache_clear()
    close_ms = exchange.stop_clocks(before_close_s)
    shared = stream.shared_stream(settings.exchange_stream_url)
    listener = Listener(shared, monkeypatch)
    replica = Forecaster(ETH, settings, ModelCache(2))
    try:
        await replica.reconfigure({"name": ETH.name, "version": 1, "run_id": "run-1"})
        async with asyncio.timeout(180):
            await listener.until_sent(ETH, BTC)
            while (state := await replica.state()).reason or state.as_of_ms != close_ms - HOUR_MS:
                await asyncio.sleep(0.05)
        if fault:
            exchange.set_fault(fault)
        exchange.forget_requests()
        began = time.monotonic()
        assert exchange.next_close() == close_ms
        async with asyncio.timeout(180):
            while (await replica.state()).as_of_ms != close_ms:
                await asyncio.sleep(0.02)
        print(f"forecast {time.monotonic() - began:.2f} s after the close")
        return exchange.requests()
    finally:
        replica.close()
        await shared.close()


def test_a_pushed_candle_is_forecast_from_without_a_request(
    exchange: Exchange, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # long before the close, so that the replica, which asks for the candle then, has no time to do so
    requests = asyncio.run(_requests_of_a_forecast(exchange, settings, monkeypatch, before_close_s=600))

    assert requests == 0


def test_behind_a_silent_stream_the_candle_is_asked_for(
    exchange: Exchange, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updater, "_DELAY_BEHIND_STREAM_S", (0.2, 0.4))
    requests = asyncio.run(
        _requests_of_a_forecast(exchange, settings, monkeypatch, before_close_s=0.2, fault="stream_silent")
    )

    assert requests >= 2  # the pair's candle and BTC's


def _columns(candles: Candles) -> dict[str, list[float]]:
    return {name: np.asarray(column).tolist() for name, column in vars(candles).items()}
