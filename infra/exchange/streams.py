"""Binance's kline streams: `/stream`, where a client subscribes by messages.

Each subscribed candle is sent as it is every two seconds, and once more, marked as closed, when it has closed.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from infra.exchange.faults import STREAM_FAULTS, Faults
from infra.exchange.klines import SERVED_INTERVALS, kline_rows
from make_us_rich.market.candles import Candles

_TICK_S = 0.1
_BETWEEN_UPDATES_S = 2.0


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    method: Literal["SUBSCRIBE", "UNSUBSCRIBE"]
    params: list[str]
    id: int


class StreamConnection:
    """One client of the streams. `now_ms` is the exchange's clock."""

    def __init__(self, candles_by_symbol: Mapping[str, Candles], faults: Faults, now_ms: Callable[[], int]) -> None:
        self._candles = candles_by_symbol
        self._faults = faults
        self._now_ms = now_ms
        self._sent_until: dict[str, int] = {}  # by stream: the close up to which closed candles were sent

    async def serve(self, socket: WebSocket) -> None:
        """Talk to the client until it goes, or a fault closes the connection."""
        await socket.accept()
        sending = asyncio.create_task(self._send(socket))
        try:
            while True:
                await socket.send_json(self._answer(await socket.receive_text()))
        except (WebSocketDisconnect, RuntimeError):  # Starlette raises RuntimeError once _send has closed the socket
            pass
        finally:
            sending.cancel()

    def _answer(self, text: str) -> dict[str, Any]:
        try:
            request = _Request.model_validate_json(text)
        except ValidationError:
            return {"error": {"code": 2, "msg": "Invalid request"}}
        for name in request.params:
            symbol, _, interval = name.partition("@kline_")
            if request.method == "UNSUBSCRIBE":
                self._sent_until.pop(name, None)
            elif symbol.upper() in self._candles and interval in SERVED_INTERVALS:
                self._sent_until.setdefault(name, _last_close(interval, self._now_ms()))
        return {"result": None, "id": request.id}

    async def _send(self, socket: WebSocket) -> None:
        ticks_per_update = round(_BETWEEN_UPDATES_S / _TICK_S)
        tick = 0
        while True:
            fault = self._faults.find(STREAM_FAULTS)
            if fault == "stream_closed":
                await socket.close()
                return
            for message in list(self._messages(open_ones=tick % ticks_per_update == 0)):
                if fault != "stream_silent":
                    await socket.send_text(message[:40] if fault == "stream_truncated" else message)
            tick += 1
            await asyncio.sleep(_TICK_S)

    def _messages(self, *, open_ones: bool) -> Iterator[str]:
        now_ms = self._now_ms()
        for name, until_ms in self._sent_until.items():
            symbol, _, interval = name.partition("@kline_")
            close_ms = _last_close(interval, now_ms)
            first_ms = until_ms if close_ms > until_ms else close_ms
            if close_ms == until_ms and not open_ones:
                continue
            self._sent_until[name] = close_ms
            for row in kline_rows(self._candles[symbol.upper()], interval, first_ms, None, 1000, now_ms):
                yield _message(name, symbol.upper(), interval, row, closed=row[0] < close_ms)


def _last_close(interval: str, now_ms: int) -> int:
    length, first_ms = SERVED_INTERVALS[interval]
    return now_ms - (now_ms - first_ms) % length


def _message(name: str, symbol: str, interval: str, row: list[Any], *, closed: bool) -> str:
    fields = zip(("t", "o", "h", "l", "c", "v", "T", "q", "n"), row, strict=False)
    kline = dict(fields) | {"s": symbol, "i": interval, "x": closed}
    return json.dumps({"stream": name, "data": {"e": "kline", "s": symbol, "k": kline}})
