"""What can be made to go wrong, for tests and for trying what an outage looks like.

    curl -X POST :28900/_control/faults -d '{"symbol": "CHZUSDT", "kind": "500", "times": 3}'
    curl -X DELETE :28900/_control/faults

Refusals replace the answer: 429 and 418 (with retry_after_s), 500, timeout, truncated, html, empty, unknown_symbol.
Dirt: nan, duplicate, offgrid, gap. They spoil rows in the middle of an answer. halt: no candle after its start.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response

HOUR_MS = 3_600_000
REFUSALS = ("429", "418", "500", "timeout", "truncated", "html", "empty", "unknown_symbol")
DIRT = ("nan", "duplicate", "offgrid", "gap", "halt")
_TIMEOUT_S = 60.0


@dataclass
class Fault:
    kind: str
    symbol: str | None = None  # None: every request
    times: int | None = None  # None: until it is deleted
    retry_after_s: float = 1.0
    since_ms: int = field(default_factory=lambda: int(time.time() * 1000))


class Faults:
    def __init__(self) -> None:
        self.active: list[Fault] = []

    def add(self, body: dict[str, Any]) -> Fault:
        """Raises ValueError for an unknown kind or field."""
        if body.get("kind") not in (*REFUSALS, *DIRT):
            raise ValueError(f"kind must be one of {', '.join((*REFUSALS, *DIRT))}")
        try:
            fault = Fault(**body)
        except TypeError as error:
            raise ValueError(str(error)) from None
        self.active.append(fault)
        return fault

    def take(self, symbol: str | None, kinds: tuple[str, ...]) -> Fault | None:
        """The first fault of these kinds that is due for this request; counts it."""
        for fault in self.active:
            if fault.kind in kinds and fault.symbol in (None, symbol):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.active.remove(fault)
                return fault
        return None


async def refusal(fault: Fault) -> Response:
    if fault.kind in ("429", "418"):
        body = {"code": -1003, "msg": "Too many requests."}
        return JSONResponse(body, int(fault.kind), {"Retry-After": f"{fault.retry_after_s:g}"})
    if fault.kind == "timeout":
        await asyncio.sleep(_TIMEOUT_S)
    if fault.kind in ("500", "timeout"):
        return JSONResponse({"code": -1000, "msg": "An unknown error occurred."}, 500)
    if fault.kind == "unknown_symbol":
        return JSONResponse({"code": -1121, "msg": "Invalid symbol."}, 400)
    if fault.kind == "empty":
        return JSONResponse([])
    if fault.kind == "html":
        return Response("<html><body>maintenance</body></html>", media_type="text/html")
    return Response('[[1499040000000,"0.0163', media_type="application/json")


def spoil(rows: list[list[Any]], fault: Fault) -> list[list[Any]]:
    """The answer with one kind of dirt in it."""
    if not rows:
        return rows
    if fault.kind == "halt":
        return [row for row in rows if row[0] < fault.since_ms - HOUR_MS]
    middle = len(rows) // 2
    before, row, after = rows[:middle], rows[middle], rows[middle + 1 :]
    if fault.kind == "gap":
        return before + after
    if fault.kind == "duplicate":
        return [*before, row, row, *after]
    if fault.kind == "offgrid":
        return [*before, [row[0] + 60_000, *row[1:]], *after]
    return [*before, [*row[:4], "NaN", *row[5:]], *after]


def readable(faults: Faults) -> list[dict[str, Any]]:
    return json.loads(json.dumps([vars(fault) for fault in faults.active]))
