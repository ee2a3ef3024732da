"""Which pairs are served, and the way to their replicas."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from serve_app.deploy import GATEWAY
from serve_app.problems import unavailable

_log = logging.getLogger("ray.serve")

_LEAVING = ApplicationStatus.DELETING  # half a minute, for the calls on their way
_NAMES_LIVE_S = 1.0
_ANSWER_WITHIN_S = 10.0
_ATTEMPTS = 3


class Directory(Protocol):
    """Forecasters by application name, such as btc_usdt_1h."""

    async def names(self) -> frozenset[str]: ...

    async def ask(self, name: str, method: str, *arguments: object) -> dict[str, Any]:
        """Call one method of a served forecaster. Raises Problem 503 when no replica answers."""
        ...


class ServeDirectory:
    """Asks Ray Serve's controller, so that a pair comes and goes without a word to the gateway."""

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._names_until = 0.0
        self._handles: dict[str, DeploymentHandle[Any]] = {}
        self._looking = asyncio.Lock()

    async def names(self) -> frozenset[str]:
        if time.monotonic() >= self._names_until:
            async with self._looking:
                if time.monotonic() >= self._names_until:
                    await self._look()
        return self._names

    async def _look(self) -> None:
        try:
            status = await asyncio.to_thread(serve.status)
        except (RayError, RayServeException) as error:
            _log.warning("Serve's controller does not answer, the pairs known so far stay: %s", error)
        else:
            staying = (name for name, app in status.applications.items() if app.status != _LEAVING)
            self._names = frozenset(staying) - {GATEWAY}
            self._handles = {name: self._handles[name] for name in self._handles if name in self._names}
        self._names_until = time.monotonic() + _NAMES_LIVE_S

    async def ask(self, name: str, method: str, *arguments: object) -> dict[str, Any]:
        # Every method may be asked twice, and a killed replica has a successor within seconds.
        for attempt in range(_ATTEMPTS):
            try:
                handle = await self._handle(name)
                answer = handle.options(method_name=method).remote(*arguments)
                return dict(await asyncio.wait_for(answer, _ANSWER_WITHIN_S))
            except (RayError, RayServeException, TimeoutError) as error:
                _log.warning("%s did not answer %s (attempt %d): %s", name, method, attempt + 1, error)
                self._handles.pop(name, None)
        raise unavailable("no-answer", f"{name} does not answer at the moment: try again in a few seconds")

    async def _handle(self, name: str) -> DeploymentHandle[Any]:
        if name not in self._handles:
            self._handles[name] = await asyncio.to_thread(serve.get_app_handle, name)
        return self._handles[name]
