"""The gateway's memory of forecasts: one question to a replica a moment, however many ask."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from serve_app.directory import Directory
from serve_app.metrics import GatewayMetrics
from serve_app.problems import known

# Also the longest that a swapped model or a new candle stays unseen.
_LIVE_S = 0.5


@dataclass(frozen=True)
class ForecastAnswer:
    """A forecast, and the bytes and headers that it is sent with."""

    document: dict[str, Any]
    body: bytes

    @classmethod
    def of(cls, document: dict[str, Any]) -> ForecastAnswer:
        return cls(document, json.dumps(document, separators=(",", ":")).encode())

    @property
    def etag(self) -> str:
        """Weak: the model's age moves on while forecast and model stay."""
        model, flags = self.document["model"], self.document["flags"]
        raised = "".join(str(int(flag)) for flag in flags.values())
        parts = (self.document["as_of_ms"], model["version"], model["as_of_ms"], raised)
        return 'W/"' + "-".join(str(part) for part in parts) + '"'

    @property
    def headers(self) -> dict[str, str]:
        """May be kept until the next candle closes; a stale one not at all."""
        seconds = max(0, int(self.document["target_close_ms"] / 1000 - time.time()))
        fresh = seconds if not self.document["flags"]["stale"] else 0
        return {"ETag": self.etag, "Cache-Control": f"private, max-age={fresh}"}


class ForecastCache:
    def __init__(self, directory: Directory, metrics: GatewayMetrics) -> None:
        self._directory = directory
        self._metrics = metrics
        self._kept: dict[str, tuple[float, asyncio.Task[ForecastAnswer]]] = {}

    async def get(self, name: str) -> ForecastAnswer:
        """The forecast of an application. Raises Problem 503 when there is none."""
        until, asked = self._kept.get(name, (0.0, None))
        if asked is None or time.monotonic() >= until or (asked.done() and asked.exception()):
            asked = asyncio.create_task(self._ask(name))
            self._kept[name] = (time.monotonic() + _LIVE_S, asked)
            self._metrics.answers.inc(tags={"name": name, "source": "replica"})
        else:
            self._metrics.answers.inc(tags={"name": name, "source": "memory"})
        return asked.result() if asked.done() else await asyncio.shield(asked)

    async def _ask(self, name: str) -> ForecastAnswer:
        return ForecastAnswer.of(known(name, await self._directory.ask(name, "forecast")))
