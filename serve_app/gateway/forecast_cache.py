"""The gateway's cache of forecasts: single-flight, so concurrent requests share one call to the replica."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from make_us_rich.documents import Forecast, ReplicaError
from serve_app.gateway.replica_client import ReplicaClient
from serve_app.metrics import GatewayMetrics
from serve_app.problems import Problem, replica_problem, unavailable

# Also the longest time for which a swapped model or a new candle stays unseen.
_TTL_S = 0.5
# How long a caller waits for a replica when the cached forecast is still valid.
_WAIT_FOR_FRESH_S = 0.25


@dataclass(frozen=True)
class CachedForecast:
    """A forecast with the body and the headers of its answer, which are built once."""

    document: Forecast
    body: bytes
    etag: str

    @classmethod
    def of(cls, document: Forecast) -> CachedForecast:
        model, flags = document.model, document.flags
        raised = "".join(str(int(flag)) for _, flag in flags)
        # Weak, because the body changes with the model's age while forecast and model stay the same.
        etag = f'W/"{document.as_of_ms}-{model.version}-{model.as_of_ms}-{raised}"'
        return cls(document, document.model_dump_json().encode(), etag)

    @property
    def is_valid(self) -> bool:
        """True until the candle that it forecasts has closed."""
        return time.time() * 1000 < self.document.target_close_ms

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers: a client may keep it until the next close, and not at all when it is stale."""
        seconds = max(0, int(self.document.target_close_ms / 1000 - time.time()))
        return {
            "ETag": self.etag,
            "Cache-Control": f"private, max-age={0 if self.document.flags.stale else seconds}",
            "X-Model-Version": f"{self.document.model.name}/{self.document.model.version}",
        }


class ForecastCache:
    """A forecast is valid until its candle closes: it stands in for a replica that is stopped or does not answer."""

    def __init__(self, replicas: ReplicaClient, metrics: GatewayMetrics) -> None:
        self._replicas = replicas
        self._metrics = metrics
        self._cached: dict[tuple[str, str], tuple[float, CachedForecast]] = {}
        self._calls: dict[tuple[str, str], asyncio.Task[CachedForecast]] = {}

    async def get(self, name: str, model: str, *, wake: bool = True) -> CachedForecast:
        """Return an application's forecast. Raises Problem 503 when there is none, 404 when there is no such model.

        `wake`: start a replica that is scaled to zero when no valid forecast is cached.
        """
        key = name, model
        expires_at, cached = self._cached.get(key, (0.0, None))
        is_fresh = time.monotonic() < expires_at
        is_stopped = self._replicas.is_scaled_to_zero(name)
        if cached is not None and (is_fresh or (cached.is_valid and is_stopped)):
            self._metrics.forecast_given(name, "memory")
            return cached
        if is_stopped and not wake:
            raise unavailable("asleep", "asleep because nobody asked for it: a call that names the pair wakes it")
        self._metrics.forecast_given(name, "replica")
        if key not in self._calls:
            self._calls[key] = asyncio.create_task(self._call(key))
            self._calls[key].add_done_callback(_retrieve_exception)
        call = asyncio.shield(self._calls[key])
        if cached is None or not cached.is_valid:
            return await call
        try:
            return await asyncio.wait_for(call, _WAIT_FOR_FRESH_S)
        except (Problem, TimeoutError):
            return cached

    async def _call(self, key: tuple[str, str]) -> CachedForecast:
        name, model = key
        try:
            answer = await self._replicas.call(name, "forecast", model)
            if isinstance(answer, ReplicaError):
                raise replica_problem(name, answer)
            assert isinstance(answer, Forecast)
            cached = CachedForecast.of(answer)
            self._cached[key] = (time.monotonic() + _TTL_S, cached)
            return cached
        finally:
            del self._calls[key]


def _retrieve_exception(call: asyncio.Task[CachedForecast]) -> None:
    """Retrieve the exception of a call that nobody waits for any more, or asyncio logs that it never was."""
    if not call.cancelled():
        call.exception()
