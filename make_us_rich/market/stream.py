"""Closed candles as the exchange pushes them: Binance's kline streams, over one websocket for each process.

A stream only saves time: its subscribers also request the candle some seconds after the close, so a silent, broken or
wrong stream delays forecasts by these seconds and has no other effect.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import cache
from typing import cast

from pydantic import BaseModel, JsonValue, ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from make_us_rich.core.errors import BadCandles
from make_us_rich.core.pair import Series
from make_us_rich.market.candles import Candles, from_klines

_log = logging.getLogger("ray.serve")

Listener = Callable[[Candles], None]

MAX_STREAMS = 1024
"""Streams that Binance allows a connection. The candles of further series are only asked for."""
_STREAMS_A_REQUEST = 100
_BETWEEN_REQUESTS_S = 0.25  # Binance closes a connection that sends more than five messages a second
_SILENCE_S = 30.0  # BTC's candle, which every process follows, changes every two seconds
_BETWEEN_CONNECTIONS_S = (1.0, 3.0)
_MAX_MESSAGE_BYTES = 65_536


class _Kline(BaseModel):
    """A candle as it is now; `x`: it is closed."""

    t: int
    o: float
    h: float
    l: float  # noqa: E741  (the exchange's name)
    c: float
    v: float
    x: bool


class _Event(BaseModel):
    k: _Kline | None = None


class _Message(BaseModel):
    """A candle of a stream, or the answer to a request."""

    stream: str = ""
    data: _Event | None = None
    error: JsonValue = None


class CandleStream:
    """The candles of the subscribed series. Belongs to the event loop that subscribes; reconnects without a limit."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/stream"
        self._listeners: defaultdict[str, list[Listener]] = defaultdict(list)
        self._changed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.is_connected = False
        self._unreadable = 0

    def subscribe(self, series: Series, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each candle of the series, one row, when it has closed. Returns what ends that."""
        name = _stream_name(series)
        self._listeners[name].append(listener)
        self._changed.set()
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run())

        def unsubscribe() -> None:
            self._listeners[name].remove(listener)
            if not self._listeners[name]:
                del self._listeners[name]
            self._changed.set()

        return unsubscribe

    async def close(self) -> None:
        """End the connection."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    async def _run(self) -> None:
        reconnecting = connect(self._url, max_size=_MAX_MESSAGE_BYTES, process_exception=self._note_failure)
        async with aclosing(cast(AsyncGenerator[ClientConnection], aiter(reconnecting))) as connections:
            async for connection in connections:
                await self._follow(connection)
                await asyncio.sleep(random.uniform(*_BETWEEN_CONNECTIONS_S))

    async def _follow(self, connection: ClientConnection) -> None:
        """Deliver candles until the connection ends or is silent."""
        self.is_connected = True
        self._unreadable = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._request(connection))
                tasks.create_task(self._read(connection))
        except* (ConnectionClosed, TimeoutError) as failures:
            _log.warning("the candle stream %s ended, connecting again: %r", self._url, failures.exceptions[0])
        finally:
            self.is_connected = False

    def _note_failure(self, failure: Exception) -> None:
        """Whatever prevented a connection, it is tried again, after longer and longer pauses."""
        _log.warning("the candle stream %s cannot be reached: %r", self._url, failure)

    async def _request(self, connection: ClientConnection) -> None:
        """Ask for the streams that have listeners, and again whenever these change."""
        asked: set[str] = set()
        number = 0
        while True:
            self._changed.clear()
            wanted = set(sorted(self._listeners)[:MAX_STREAMS])
            for method, names in (("UNSUBSCRIBE", asked - wanted), ("SUBSCRIBE", wanted - asked)):
                rest = sorted(names)
                while rest:
                    number += 1
                    request = {"method": method, "params": rest[:_STREAMS_A_REQUEST], "id": number}
                    await connection.send(json.dumps(request))
                    await asyncio.sleep(_BETWEEN_REQUESTS_S)
                    rest = rest[_STREAMS_A_REQUEST:]
            asked = wanted
            await self._changed.wait()

    async def _read(self, connection: ClientConnection) -> None:
        while True:
            async with asyncio.timeout(_SILENCE_S):
                message = await connection.recv()
            self._deliver(message)

    def _deliver(self, text: str | bytes) -> None:
        try:
            message = _Message.model_validate_json(text)
            candle = _closed_candle(message)
        except (ValidationError, BadCandles) as error:
            if self._unreadable == 0:  # one line for each connection, which may send hundreds a second
                _log.warning("the candle stream sent what cannot be read: %s", str(error).replace("\n", " ")[:200])
            self._unreadable += 1
            return
        if message.error is not None:
            _log.error("the candle stream refused a request: %s", repr(message.error)[:200])
        if candle is None:
            return
        for listener in list(self._listeners.get(message.stream, ())):
            try:
                listener(candle)
            except Exception:  # of one series; the others get their candles
                _log.exception("%s: the pushed candle cannot be used", message.stream)


def _closed_candle(message: _Message) -> Candles | None:
    """Return the candle of a message; None where it has none, or one that is still open. Raises BadCandles."""
    kline = message.data.k if message.data else None
    if kline is None or not kline.x:
        return None
    return from_klines([[kline.t, kline.o, kline.h, kline.l, kline.c, kline.v]])


@cache
def shared_stream(url: str) -> CandleStream:
    """Return the process's one connection to these streams."""
    return CandleStream(url)


def _stream_name(series: Series) -> str:
    return f"{series.pair.symbol.lower()}@kline_{series.interval}"
