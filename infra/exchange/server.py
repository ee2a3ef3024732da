"""The endpoints: Binance's paths for spot market data, with its limits, error bodies and weight header.

The exchange's clock is the machine's clock, which can be moved and sped up.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time_ns  # by its name, so that a test can move the clock of a client in the same process
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from infra.exchange.faults import CLOCK_SKEW, CORRUPTIONS, OUTAGES, PAIR_FAULTS, Fault, Faults, corrupt, fault_response
from infra.exchange.klines import SERVED_INTERVALS, kline_rows
from infra.exchange.streams import StreamConnection
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import parse_symbol
from make_us_rich.market.candles import Candles

Model = TypeVar("Model", bound=BaseModel)

_DEFAULT_ROWS = 500
_MAX_ROWS = 1000
_WEIGHT_PER_MINUTE = 6000


class ClockChange(BaseModel):
    """A change of the clock; an absent field stays as it is."""

    model_config = ConfigDict(extra="forbid")

    offset_ms: int | None = None
    speed: float | None = Field(default=None, ge=0, le=100_000)


class Clock:
    def __init__(self) -> None:
        self._speed = 1.0
        self._set(self._real_ms())

    def now_ms(self) -> int:
        """Return the exchange's time."""
        return self._from_ms + int((self._real_ms() - self._since_ms) * self._speed)

    def change(self, change: ClockChange) -> None:
        """Move the clock to `offset_ms` from the machine's clock, and set its speed from now on."""
        self._set(self.now_ms() if change.offset_ms is None else self._real_ms() + change.offset_ms)
        if change.speed is not None:
            self._speed = change.speed

    def _set(self, now_ms: int) -> None:
        self._since_ms = self._real_ms()
        self._from_ms = now_ms

    def _real_ms(self) -> int:
        return time_ns() // 1_000_000


class Exchange:
    """Serves candles by symbol; `label` says what their prices are, SIMULATED or RECORDED."""

    def __init__(self, candles_by_symbol: Mapping[str, Candles], label: str) -> None:
        self._candles = candles_by_symbol
        self._label = label
        self._faults = Faults()
        self._clock = Clock()
        self._weight_minute = 0
        self._weight_used = 0
        self._usage = {"requests": 0, "weight": 0, "bytes": 0}

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self.root),
            Route("/api/v3/ping", self.ping),
            Route("/api/v3/time", self.server_time),
            Route("/api/v3/exchangeInfo", self.exchange_info),
            Route("/api/v3/klines", self.klines),
            WebSocketRoute("/stream", self.stream),
            Route("/_control/faults", self.control_faults, methods=["GET", "POST", "DELETE"]),
            Route("/_control/clock", self.control_clock, methods=["GET", "POST"]),
            Route("/_control/usage", self.control_usage, methods=["GET", "DELETE"]),
        ]

    async def root(self, request: Request) -> Response:
        return PlainTextResponse(
            f"{self._label} prices from the replay exchange. No price here is a current market price.\n"
            f"Pairs: {', '.join(sorted(self._candles))}\n"
        )

    async def ping(self, request: Request) -> Response:
        return await self._outage() or self._respond({}, weight=1)

    async def server_time(self, request: Request) -> Response:
        return await self._outage() or self._respond({"serverTime": self._now_ms()}, weight=1)

    async def exchange_info(self, request: Request) -> Response:
        now_ms = self._now_ms()
        symbols = [
            self._listing(symbol, candles, now_ms)
            for symbol, candles in sorted(self._candles.items())
            if candles.open_time_ms[0] <= now_ms and not self._faults.is_active("unknown_symbol", symbol)
        ]
        body = {"timezone": "UTC", "serverTime": now_ms, "label": self._label, "symbols": symbols}
        return await self._outage() or self._respond(body, weight=20)

    def _listing(self, symbol: str, candles: Candles, now_ms: int) -> dict[str, str]:
        pair = parse_symbol(symbol)
        halted = candles.open_time_ms[-1] + HOUR_MS <= now_ms or self._faults.is_active("halt", symbol)
        return {
            "symbol": symbol,
            "status": "BREAK" if halted else "TRADING",
            "baseAsset": pair.base.upper() if pair else symbol,
            "quoteAsset": pair.quote.upper() if pair else "",
        }

    async def klines(self, request: Request) -> Response:
        query = request.query_params
        symbol, interval = query.get("symbol"), query.get("interval")
        fault = self._faults.take(symbol, OUTAGES + PAIR_FAULTS)
        if fault is not None:
            return await fault_response(fault[0])
        if symbol is None or interval is None:
            return _refuse(-1102, "Mandatory parameter was not sent, was empty/null, or malformed.")
        if symbol not in self._candles:
            return _refuse(-1121, "Invalid symbol.")
        if interval not in SERVED_INTERVALS:
            return _refuse(-1120, "Invalid interval.")
        try:
            start, end = (int(query[name]) if name in query else None for name in ("startTime", "endTime"))
            limit = min(int(query.get("limit", _DEFAULT_ROWS)), _MAX_ROWS)
        except ValueError:
            return _refuse(-1100, "Illegal characters found in a parameter.")
        if limit < 1:
            return _refuse(-1130, "Data sent for parameter 'limit' is not valid.")
        rows = kline_rows(self._candles[symbol], interval, start, end, limit, self._now_ms())
        fault = self._faults.take(symbol, CORRUPTIONS)
        return self._respond(corrupt(rows, *fault) if fault else rows, weight=2)

    async def stream(self, socket: WebSocket) -> None:
        await StreamConnection(self._candles, self._faults, self._now_ms).serve(socket)

    async def control_faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.clear()
        elif request.method == "POST":
            self._faults.add(await _body(request, Fault), self._now_ms())
        return JSONResponse([fault.model_dump() for fault in self._faults.active()])

    async def control_clock(self, request: Request) -> Response:
        if request.method == "POST":
            self._clock.change(await _body(request, ClockChange))
        return JSONResponse({"now_ms": self._now_ms()})

    async def control_usage(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._usage = dict.fromkeys(self._usage, 0)
        return JSONResponse(self._usage)

    def _now_ms(self) -> int:
        skewed = self._faults.take(None, CLOCK_SKEW)
        return self._clock.now_ms() + (skewed[0].skew_ms if skewed else 0)

    async def _outage(self) -> Response | None:
        fault = self._faults.take(None, OUTAGES)
        return None if fault is None else await fault_response(fault[0])

    def _respond(self, body: Any, weight: int) -> Response:
        now_s = self._clock.now_ms() // 1000
        minute = now_s // 60
        self._weight_used = weight + (self._weight_used if minute == self._weight_minute else 0)
        self._weight_minute = minute
        headers = {"X-MBX-USED-WEIGHT-1M": str(self._weight_used)}
        if self._weight_used > _WEIGHT_PER_MINUTE:
            wait = str(60 - now_s % 60)
            return JSONResponse(
                {"code": -1003, "msg": "Too much request weight used."}, 429, headers | {"Retry-After": wait}
            )
        response = JSONResponse(body, headers=headers)
        for name, used in (("requests", 1), ("weight", weight), ("bytes", len(response.body))):
            self._usage[name] += used
        return response


def create_app(candles_by_symbol: Mapping[str, Candles], label: str) -> Starlette:
    return Starlette(routes=Exchange(candles_by_symbol, label).routes())


async def _body(request: Request, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise HTTPException(400, str(error)) from None


def _refuse(code: int, message: str) -> Response:
    return JSONResponse({"code": code, "msg": message}, 400)
