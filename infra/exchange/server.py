"""Binance's spot market data paths, its parameter names, limits, error bodies and weight header.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from infra.exchange.faults import DIRT, REFUSALS, Faults, readable, refusal, spoil
from infra.exchange.klines import SERVED_INTERVALS, rows_of
from make_us_rich.market.candles import Candles

_DEFAULT_ROWS = 500
_MOST_ROWS = 1000


@dataclass
class Clock:
    """The exchange's now: the machine's, moved by an offset and sped up from the moment that was asked for."""

    offset_ms: int = 0
    speed: float = 1.0
    since_ms: int = 0

    def now_ms(self) -> int:
        real = int(time.time() * 1000)
        return real + self.offset_ms + int((real - self.since_ms) * (self.speed - 1)) * (self.since_ms > 0)


def create_app(markets: Mapping[str, Candles], label: str) -> Starlette:
    """`label` says what the prices are: SIMULATED or RECORDED."""
    faults, clock = Faults(), Clock()

    async def root(request: Request) -> Response:
        return PlainTextResponse(
            f"{label} market in the place of an exchange. No price here is a price of today.\n"
            f"Pairs: {', '.join(sorted(markets))}\n"
        )

    async def ping(request: Request) -> Response:
        fault = faults.take(None, REFUSALS)
        return await refusal(fault) if fault else JSONResponse({})

    async def server_time(request: Request) -> Response:
        return JSONResponse({"serverTime": clock.now_ms()})

    async def exchange_info(request: Request) -> Response:
        halted = {fault.symbol for fault in faults.active if fault.kind in ("halt", "unknown_symbol")}
        symbols = [
            {
                "symbol": symbol,
                "status": "BREAK" if symbol in halted else "TRADING",
                "baseAsset": symbol.removesuffix("USDT"),
                "quoteAsset": "USDT",
            }
            for symbol in sorted(markets)
        ]
        body = {"timezone": "UTC", "serverTime": clock.now_ms(), "label": label, "symbols": symbols}
        return JSONResponse(body)

    async def klines(request: Request) -> Response:
        query = request.query_params
        symbol, interval = query.get("symbol"), query.get("interval")
        fault = faults.take(symbol, REFUSALS)
        if fault:
            return await refusal(fault)
        if symbol is None or interval is None:
            return _refuse(-1102, "Mandatory parameter was not sent, was empty/null, or malformed.")
        if symbol not in markets:
            return _refuse(-1121, "Invalid symbol.")
        if interval not in SERVED_INTERVALS:
            return _refuse(-1120, "Invalid interval.")
        try:
            start, end = (int(query[name]) if name in query else None for name in ("startTime", "endTime"))
            limit = min(int(query.get("limit", _DEFAULT_ROWS)), _MOST_ROWS)
        except ValueError:
            return _refuse(-1100, "Illegal characters found in a parameter.")
        rows = rows_of(markets[symbol], interval, start, end, limit, clock.now_ms())
        dirt = faults.take(symbol, DIRT)
        return JSONResponse(spoil(rows, dirt) if dirt else rows, headers={"X-MBX-USED-WEIGHT-1M": "2"})

    async def control_faults(request: Request) -> Response:
        if request.method == "DELETE":
            faults.active.clear()
        elif request.method == "POST":
            try:
                faults.add(await request.json())
            except ValueError as error:
                return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(readable(faults))

    async def control_clock(request: Request) -> Response:
        body = await request.json()
        clock.offset_ms = int(body.get("offset_ms", clock.offset_ms))
        clock.speed = float(body.get("speed", clock.speed))
        clock.since_ms = int(time.time() * 1000)
        return JSONResponse({"now_ms": clock.now_ms()})

    return Starlette(
        routes=[
            Route("/", root),
            Route("/api/v3/ping", ping),
            Route("/api/v3/time", server_time),
            Route("/api/v3/exchangeInfo", exchange_info),
            Route("/api/v3/klines", klines),
            Route("/_control/faults", control_faults, methods=["GET", "POST", "DELETE"]),
            Route("/_control/clock", control_clock, methods=["POST"]),
        ]
    )


def _refuse(code: int, message: str) -> Response:
    return JSONResponse({"code": code, "msg": message}, 400)
