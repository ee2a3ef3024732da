"""Candles that the real replay exchange pushes over its websocket, and what a replica makes of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr, ValidationError
from websockets.asyncio.server import ServerConnection, serve

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.market import stream
from make_us_rich.market.candles import Candles
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.stream import CandleStream
from serve_app.replica.forecast import ForecastSnapshot
from serve_app.replica.forecaster import Forecaster
from serve_app.replica.models import ModelCache
from tests.support.forecasts import make_forecast
from tests.support.processes import free_port

ETH = Series(Pair("eth", "usdt"), Interval.H1)


class Exchange:
    """The replay exchange; the clocks, its and this process's, can be moved to just before a full hour."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = url
        self.stream_url = url.replace("http", "ws", 1)
        self._monkeypatch = monkeypatch

    def before_a_close(self, seconds: float) -> int:
        """Move the clocks to so many seconds before the next close; returns it."""
        real_ns = time.time_ns
        close_ms = Interval.H1.last_close_ms(real_ns() // 1_000_000) + HOUR_MS
        offset_ms = close_ms - int(seconds * 1000) - real_ns() // 1_000_000
        self.control("clock", {"offset_ms": offset_ms})
        self._monkeypatch.setattr(time, "time_ns", lambda: real_ns() + offset_ms * 1_000_000)
        return close_ms

    def control(self, path: str, change: dict[str, Any]) -> None:
        httpx.post(f"{self.url}/_control/{path}", json=change).raise_for_status()

    def set_fault(self, kind: str) -> None:
        self.control("faults", {"kind": kind})

    def clear_faults(self) -> None:
        httpx.delete(f"{self.url}/_control/faults").raise_for_status()

    def forget_requests(self) -> None:
        httpx.delete(f"{self.url}/_control/usage").raise_for_status()

    def requests(self) -> int:
        return int(httpx.get(f"{self.url}/_control/usage").json()["requests"])


@pytest.fixture
def exchange(exchange_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    made = Exchange(exchange_url, monkeypatch)
    yield made
    made.clear_faults()
    made.control("clock", {"offset_ms": 0})


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


async def until(done: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not done():
            await asyncio.sleep(0.05)


def test_a_candle_is_pushed_when_it_has_closed_as_the_exchange_answers_it_afterwards(exchange: Exchange) -> None:
    async def first_candles() -> list[Candles]:
        async with subscribed(exchange, ETH, Series(BITCOIN, Interval.H1)) as (opened, candles):
            await until(lambda: opened.is_connected)
            return [await asyncio.wait_for(candles.get(), 30) for _ in range(2)]

    close_ms = exchange.before_a_close(4)
    pushed = asyncio.run(first_candles())

    for pair in (ETH.pair, BITCOIN):
        (asked,) = [ExchangeClient(exchange.url).klines(pair, Interval.H1, close_ms - HOUR_MS, close_ms)]
        assert any(_columns(candle) == _columns(asked) for candle in pushed), pair


@pytest.mark.parametrize("kind", ["stream_closed", "stream_silent", "stream_truncated"])
def test_after_a_fault_of_the_stream_candles_arrive_again(
    exchange: Exchange, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream, "_SILENCE_S", 3.0)
    noticed = {
        "stream_closed": "ended, connecting again: ConnectionClosed",
        "stream_silent": "ended, connecting again: TimeoutError",
        "stream_truncated": "sent what cannot be read",
    }[kind]

    async def candle_after_the_fault() -> Candles:
        async with subscribed(exchange, ETH) as (opened, candles):
            await until(lambda: opened.is_connected)
            exchange.set_fault(kind)
            await until(lambda: noticed in caplog.text)
            exchange.clear_faults()
            await until(lambda: opened.is_connected)
            await asyncio.sleep(1)  # the subscription, which has no sign of its own
            exchange.before_a_close(1)
            return await asyncio.wait_for(candles.get(), 30)

    assert len(asyncio.run(candle_after_the_fault())) == 1


def test_a_series_without_listeners_is_not_sent_any_more(exchange: Exchange) -> None:
    async def candles_after_unsubscribing() -> int:
        async with subscribed(exchange, Series(BITCOIN, Interval.H1)) as (opened, bitcoin):
            ether: list[Candles] = []
            unsubscribe = opened.subscribe(ETH, ether.append)
            await until(lambda: opened.is_connected)
            await asyncio.sleep(1)
            unsubscribe()
            await asyncio.sleep(1)
            exchange.before_a_close(0.5)
            await asyncio.wait_for(bitcoin.get(), 30)
            await asyncio.sleep(0.5)
            return len(ether)

    assert asyncio.run(candles_after_unsubscribing()) == 0


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


async def _seconds_and_requests(exchange: Exchange, settings: Settings, fault: str = "") -> tuple[float, int]:
    """Return the seconds from a close to its forecast, and the requests to the exchange from before the close on."""
    stream.shared_stream.cache_clear()
    close_ms = exchange.before_a_close(12)
    replica = Forecaster(ETH, settings, ModelCache(2))
    try:
        await replica.reconfigure({"name": ETH.name, "version": 1, "run_id": "run-1"})
        shared = stream.shared_stream(settings.exchange_stream_url)
        await until(lambda: shared.is_connected)
        if fault:
            exchange.set_fault(fault)
        while (state := await replica.state()).reason or state.as_of_ms != close_ms - HOUR_MS:
            await asyncio.sleep(0.05)
            assert time.time_ns() // 1_000_000 < close_ms, f"not ready before the close: {state}"
        exchange.forget_requests()
        while (await replica.state()).as_of_ms != close_ms:
            await asyncio.sleep(0.02)
            assert time.time_ns() // 1_000_000 < close_ms + 30_000, "no forecast after the close"
        return (time.time_ns() // 1_000_000 - close_ms) / 1000, exchange.requests()
    finally:
        replica.close()
        await shared.close()


def test_a_pushed_candle_is_forecast_from_without_a_request(exchange: Exchange, settings: Settings) -> None:
    seconds, requests = asyncio.run(_seconds_and_requests(exchange, settings))

    print(f"forecast {seconds:.2f} s after the close")
    assert requests == 0


def test_behind_a_silent_stream_the_candle_is_asked_for(exchange: Exchange, settings: Settings) -> None:
    seconds, requests = asyncio.run(_seconds_and_requests(exchange, settings, "stream_silent"))

    print(f"forecast {seconds:.2f} s after the close")
    assert requests >= 2  # the pair's candle and BTC's


def _columns(candles: Candles) -> dict[str, list[float]]:
    return {name: np.asarray(column).tolist() for name, column in vars(candles).items()}
