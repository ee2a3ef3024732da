"""Faults of the exchange, for tests and to try out an outage.

    curl -X POST :28900/_control/faults -d '{"symbol": "CHZUSDT", "kind": "500", "times": 3}'
    curl -X DELETE :28900/_control/faults

Without a symbol a fault applies to every pair, without `times` until it is deleted. The first `after` requests pass.

OUTAGES      responses of any path: 429 and 418 (with retry_after_s), 451, 500, timeout, truncated, html
PAIR_FAULTS  responses about a pair: unknown_symbol, empty
CORRUPTIONS  wrong rows: nan, duplicate, offgrid and gap in the middle of a response, open_last_candle after its end;
             halt: no candle since the fault began
clock_skew   the exchange's clock is off by `skew_ms`
STREAM_FAULTS  of the websocket: stream_silent sends nothing, stream_closed closes each connection, stream_truncated
             sends half messages
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

Outage = Literal["429", "418", "451", "500", "timeout", "truncated", "html"]
PairFault = Literal["unknown_symbol", "empty"]
StreamFault = Literal["stream_silent", "stream_closed", "stream_truncated"]
Corruption = Literal["nan", "duplicate", "offgrid", "gap", "open_last_candle", "halt"]
OUTAGES, PAIR_FAULTS, CORRUPTIONS = get_args(Outage), get_args(PairFault), get_args(Corruption)
STREAM_FAULTS = get_args(StreamFault)
CLOCK_SKEW = ("clock_skew",)
_TIMEOUT_S = 60.0
_MINUTE_MS = 60_000


class Fault(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Outage | PairFault | Corruption | StreamFault | Literal["clock_skew"]
    symbol: str | None = None
    times: int | None = Field(default=None, ge=1)
    after: int = Field(default=0, ge=0)
    retry_after_s: float = Field(default=1.0, ge=0)
    skew_ms: int = -600_000

    def applies_to(self, symbol: str | None) -> bool:
        return self.symbol in (None, symbol)


class Faults:
    def __init__(self) -> None:
        self._active: dict[int, tuple[Fault, int]] = {}
        self._next = 0

    def add(self, fault: Fault, now_ms: int) -> None:
        self._active[self._next] = fault, now_ms
        self._next += 1

    def clear(self) -> None:
        self._active.clear()

    def active(self) -> list[Fault]:
        return [fault for fault, _ in self._active.values()]

    def is_active(self, kind: str, symbol: str) -> bool:
        return any(fault.kind == kind and fault.applies_to(symbol) for fault in self.active())

    def find(self, kinds: tuple[str, ...]) -> str | None:
        """Return the first active fault of these kinds."""
        return next((fault.kind for fault in self.active() if fault.kind in kinds), None)

    def take(self, symbol: str | None, kinds: tuple[str, ...]) -> tuple[Fault, int] | None:
        """Return the first fault of these kinds that applies to a request, and when it began; count the request."""
        for key, (fault, since_ms) in self._active.items():
            if fault.kind in kinds and fault.applies_to(symbol):
                if fault.after:
                    fault.after -= 1
                    continue
                if fault.times == 1:
                    del self._active[key]
                elif fault.times is not None:
                    fault.times -= 1
                return fault, since_ms
        return None


async def fault_response(fault: Fault) -> Response:
    """Return the response that a fault gives instead of the normal one."""
    if fault.kind in ("429", "418"):
        body = {"code": -1003, "msg": "Too many requests."}
        return JSONResponse(body, int(fault.kind), {"Retry-After": f"{fault.retry_after_s:g}"})
    if fault.kind == "451":
        body = {"code": 0, "msg": "Service unavailable from a restricted location."}
        return JSONResponse(body, 451)
    if fault.kind == "timeout":
        await asyncio.sleep(_TIMEOUT_S)
    if fault.kind == "unknown_symbol":
        return JSONResponse({"code": -1121, "msg": "Invalid symbol."}, 400)
    if fault.kind == "empty":
        return JSONResponse([])
    if fault.kind == "html":
        return Response("<html><body>maintenance</body></html>", media_type="text/html")
    if fault.kind == "truncated":
        return Response('[[1499040000000,"0.0163', media_type="application/json")
    return JSONResponse({"code": -1000, "msg": "An unknown error occurred."}, 500)


def corrupt(rows: list[list[Any]], fault: Fault, since_ms: int) -> list[list[Any]]:
    """Return the rows with one kind of corruption."""
    if not rows:
        return rows
    if fault.kind == "halt":
        return [row for row in rows if row[6] < since_ms]
    if fault.kind == "open_last_candle":
        opened, closed = rows[-1][0], rows[-1][6]
        return [*rows, [closed + 1, *rows[-1][1:6], 2 * closed - opened + 1, *rows[-1][7:]]]
    middle = len(rows) // 2
    before, row, after = rows[:middle], rows[middle], rows[middle + 1 :]
    if fault.kind == "gap":
        # a response without its newest candle would be late rather than have a gap
        return before + after if after else rows
    if fault.kind == "duplicate":
        return [*before, row, row, *after]
    if fault.kind == "offgrid":
        return [*before, [row[0] + _MINUTE_MS, *row[1:]], *after]
    return [*before, [*row[:4], "NaN", *row[5:]], *after]
