"""Binance's spot market data paths, its parameter names, limits, error bodies and weight header.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from infra.exchange.clock import Clock, ClockChange
from infra.exchange.faults import DIRT, OUTAGES, REFUSED, SKEW, Fault, Faults, answer_of, spoil
from infra.exchange.klines import SERVED_INTERVALS, rows_of
from make_us_rich.market.candles import Candles

Model = TypeVar("Model", bound=BaseModel)

_DEFAULT_ROWS = 500
_MOST_ROWS = 1000
_WEIGHT_A_MINUTE = 6000


class Exchange:
    """`label` says what the prices are: SIMULATED or RECORDED."""

    def __init__(self, markets: Mapping[str, Candles], label: str) -> None:
        self._markets = markets
        self._label = label
        self._faults = Faults()
        self._clock = Clock()
        self._weight_minute = 0
        self._weight_used = 0

    def routes(self) -> list[Route]:
        return [
            Route("/", self.root),
            Route("/api/v3/ping", self.ping),
            Route("/api/v3/time", self.server_time),
            Route("/api/v3/exchangeInfo", self.exchange_info),
            Route("/api/v3/klines", self.klines),
            Route("/_control/faults", self.control_faults, methods=["GET", "POST", "DELETE"]),
            Route("/_control/clock", self.control_clock, methods=["GET", "POST"]),
        ]

    async def root(self, request: Request) -> Response:
        return PlainTextResponse(
            f"{self._label} market in the place of an exchange. No price here is a price of today.\n"
            f"Pairs: {', '.join(sorted(self._markets))}\n"
        )

    async def ping(self, request: Request) -> Response:
        return await self._outage() or self._answer({}, weight=1)

    async def server_time(self, request: Request) -> Response:
        return await self._outage() or self._answer({"serverTime": self._now_ms()}, weight=1)

    async def exchange_info(self, request: Request) -> Response:
        symbols = [
            {
                "symbol": symbol,
                "status": "BREAK" if self._faults.is_active("halt", symbol) else "TRADING",
                "baseAsset": symbol.removesuffix("USDT"),
                "quoteAsset": "USDT",
            }
            for symbol in sorted(self._markets)
            if not self._faults.is_active("unknown_symbol", symbol)
        ]
        body = {"timezone": "UTC", "serverTime": self._now_ms(), "label": self._label, "symbols": symbols}
        return await self._outage() or self._answer(body, weight=20)

    async def klines(self, request: Request) -> Response:
        query = request.query_params
        symbol, interval = query.get("symbol"), query.get("interval")
        fault = self._faults.take(symbol, OUTAGES + REFUSED)
        if fault is not None:
            return await answer_of(fault[0])
        if symbol is None or interval is None:
            return _refuse(-1102, "Mandatory parameter was not sent, was empty/null, or malformed.")
        if symbol not in self._markets:
            return _refuse(-1121, "Invalid symbol.")
        if interval not in SERVED_INTERVALS:
            return _refuse(-1120, "Invalid interval.")
        try:
            start, end = (int(query[name]) if name in query else None for name in ("startTime", "endTime"))
            limit = min(int(query.get("limit", _DEFAULT_ROWS)), _MOST_ROWS)
        except ValueError:
            return _refuse(-1100, "Illegal characters found in a parameter.")
        if limit < 1:
            return _refuse(-1130, "Data sent for parameter 'limit' is not valid.")
        rows = rows_of(self._markets[symbol], interval, start, end, limit, self._now_ms())
        dirt = self._faults.take(symbol, DIRT)
        return self._answer(spoil(rows, *dirt) if dirt else rows, weight=2)

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

    def _now_ms(self) -> int:
        skewed = self._faults.take(None, SKEW)
        return self._clock.now_ms() + (skewed[0].skew_ms if skewed else 0)

    async def _outage(self) -> Response | None:
        fault = self._faults.take(None, OUTAGES)
        return None if fault is None else await answer_of(fault[0])

    def _answer(self, body: Any, weight: int) -> Response:
        minute = int(time.time() // 60)
        self._weight_used = weight + (self._weight_used if minute == self._weight_minute else 0)
        self._weight_minute = minute
        headers = {"X-MBX-USED-WEIGHT-1M": str(self._weight_used)}
        if self._weight_used > _WEIGHT_A_MINUTE:
            wait = str(60 - int(time.time()) % 60)
            return JSONResponse(
                {"code": -1003, "msg": "Too much request weight used."}, 429, headers | {"Retry-After": wait}
            )
        return JSONResponse(body, headers=headers)


def create_app(markets: Mapping[str, Candles], label: str) -> Starlette:
    return Starlette(routes=Exchange(markets, label).routes())


async def _body(request: Request, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise HTTPException(400, str(error)) from None


def _refuse(code: int, message: str) -> Response:
    return JSONResponse({"code": code, "msg": message}, 400)
