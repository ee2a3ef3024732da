"""The gateway's memory of forecasts: one question to a replica a moment, however many ask."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from serve_app.api.problems import Problem, known_answer, unavailable
from serve_app.gateway.replica_client import ReplicaClient
from serve_app.metrics import GatewayMetrics

# Also the longest that a swapped model or a new candle stays unseen.
_LIVE_S = 0.5
# How long a caller waits for a replica when the gateway knows a forecast that still holds.
_PATIENCE_S = 0.25


@dataclass(frozen=True)
class ForecastAnswer:
    """A forecast, and the bytes and headers that it is sent with."""

    document: dict[str, Any]
    body: bytes

    @classmethod
    def of(cls, document: dict[str, Any]) -> ForecastAnswer:
        return cls(document, json.dumps(document, separators=(",", ":")).encode())

    @cached_property
    def etag(self) -> str:
        """Weak: the model's age moves on while forecast and model stay."""
        model, flags = self.document["model"], self.document["flags"]
        raised = "".join(str(int(flag)) for flag in flags.values())
        parts = (self.document["as_of_ms"], model["version"], model["as_of_ms"], raised)
        return 'W/"' + "-".join(str(part) for part in parts) + '"'

    @property
    def holds(self) -> bool:
        """The candle it forecasts has not closed yet."""
        return time.time() * 1000 < float(self.document["target_close_ms"])

    @property
    def headers(self) -> dict[str, str]:
        """May be kept until the next candle closes; a stale one not at all."""
        seconds = max(0, int(self.document["target_close_ms"] / 1000 - time.time()))
        fresh = seconds if not self.document["flags"]["stale"] else 0
        model = self.document["model"]
        return {
            "ETag": self.etag,
            "Cache-Control": f"private, max-age={fresh}",
            "X-Model-Version": f"{model['name']}/{model['version']}",
        }


class ForecastCache:
    """A forecast holds until its candle closes: a known one is given while its replica sleeps or does not answer."""

    def __init__(self, directory: ReplicaClient, metrics: GatewayMetrics) -> None:
        self._directory = directory
        self._metrics = metrics
        self._known: dict[tuple[str, str], tuple[float, ForecastAnswer]] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[ForecastAnswer]] = {}

    async def get(self, name: str, model: str, *, wake: bool = True) -> ForecastAnswer:
        """The forecast of an application. Raises Problem 503 when there is none, 404 when there is no such model.

        `wake`: start a replica that was scaled to zero when the gateway has no forecast that still holds.
        """
        key = name, model
        until, known = self._known.get(key, (0.0, None))
        fresh = time.monotonic() < until
        asleep = self._directory.asleep(name)
        if known is not None and (fresh or (known.holds and asleep)):
            self._metrics.forecast_given(name, "memory")
            return known
        if asleep and not wake:
            raise unavailable("asleep", "asleep because nobody asked for it: a call that names the pair wakes it")
        self._metrics.forecast_given(name, "replica")
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._ask(key))
            self._asking[key].add_done_callback(_look_at)
        asking = asyncio.shield(self._asking[key])
        if known is None or not known.holds:
            return await asking
        try:
            return await asyncio.wait_for(asking, _PATIENCE_S)
        except (Problem, TimeoutError):
            return known

    async def _ask(self, key: tuple[str, str]) -> ForecastAnswer:
        name, model = key
        try:
            answer = ForecastAnswer.of(known_answer(name, await self._directory.ask(name, "forecast", model)))
            self._known[key] = (time.monotonic() + _LIVE_S, answer)
            return answer
        finally:
            del self._asking[key]


def _look_at(asking: asyncio.Task[ForecastAnswer]) -> None:
    """Nobody may be waiting any more; asyncio would complain of an error that nobody saw."""
    if not asking.cancelled():
        asking.exception()
