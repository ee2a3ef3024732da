"""Which pairs are served, and the way to their replicas."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, Protocol

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ReplicaState

from make_us_rich.operations.serve_config import GATEWAY, POOL, REQUEST_TIMEOUT_S
from serve_app.api.problems import Problem, unavailable

_log = logging.getLogger("ray.serve")

_LEAVING = ApplicationStatus.DELETING  # half a minute, for the calls on their way
_NAMES_LIVE_S = 1.0
_ANSWER_WITHIN_S = 10.0
_ATTEMPTS = 3
_GIVE_UP_AFTER_S = 0.8 * REQUEST_TIMEOUT_S  # so that our answer comes before Serve ends the request
# A replica that is asked too often for its health never gets to sleep.
_SETTLED_LIVES_S = 10.0
_NO_STATE: dict[str, Any] = {
    "ready": False,
    "asleep": False,
    "serves": None,
    "wanted": None,
    "refused": None,
    "as_of_ms": None,
    "reason": None,
}


@dataclass(frozen=True)
class _Settled:
    """What a replica said of itself, which holds for a while unless a new deployment told it otherwise."""

    state: dict[str, Any]
    deployed_s: float
    until: float

    def holds(self, deployed_s: float) -> bool:
        return deployed_s == self.deployed_s and time.monotonic() < self.until


class ReplicaClient(Protocol):
    """Forecasters by application name, such as btc_usdt_1h."""

    async def names(self) -> frozenset[str]: ...

    async def ask(self, name: str, method: str, *arguments: object) -> dict[str, Any]:
        """Call one method of a served forecaster. Raises Problem 503 when no replica answers."""
        ...

    def asleep(self, name: str) -> bool:
        """Its replica stopped because nobody asked, and starts with the next question."""
        ...

    async def states(self, method: str) -> dict[str, dict[str, Any]]:
        """What each forecaster says to `status` or `refresh`, by name; those that sleep are not woken."""
        ...


class ServeReplicaClient:
    """Asks Ray Serve's controller, so that a pair comes and goes without a word to the gateway."""

    def __init__(self) -> None:
        self._names: frozenset[str] | None = None
        self._pooled: frozenset[str] = frozenset()
        self._applications: dict[str, ApplicationStatusOverview] = {}
        self._settled: dict[str, _Settled] = {}
        self._names_until = 0.0
        self._handles: dict[str, DeploymentHandle[Any]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def names(self) -> frozenset[str]:
        """As of the last second; only the first call waits for an answer."""
        if time.monotonic() >= self._names_until and self._looking is None:
            self._looking = asyncio.create_task(self._look())
        if self._names is None and self._looking is not None:
            await asyncio.shield(self._looking)
        return self._names or frozenset()

    async def _look(self) -> None:
        try:
            status = await asyncio.to_thread(serve.status)
            staying = {name for name, app in status.applications.items() if app.status != _LEAVING}
            self._handles = {name: self._handles[name] for name in self._handles if name in staying}
            self._settled = {name: self._settled[name] for name in self._settled if name in staying}
            if POOL not in staying:
                self._pooled = frozenset()
            elif self._pooled or status.applications[POOL].status == ApplicationStatus.RUNNING:
                self._pooled = await self._pooled_names()
            self._applications = status.applications
            self._names = frozenset(staying - {GATEWAY, POOL}) | self._pooled
        except (RayError, RayServeException, Problem) as error:
            _log.warning("Serve does not answer, the pairs known so far stay: %s", error)
        finally:
            self._names_until = time.monotonic() + _NAMES_LIVE_S
            self._looking = None

    async def _pooled_names(self) -> frozenset[str]:
        return frozenset((await self._ask(POOL, "names"))["names"])

    async def ask(self, name: str, method: str, *arguments: object) -> dict[str, Any]:
        if name in self._pooled:
            return await self._ask(POOL, "ask", name, method, *arguments)
        return await self._ask(name, method, *arguments)

    def asleep(self, name: str) -> bool:
        return name in self._applications and _sleeps(self._applications[name])

    async def states(self, method: str) -> dict[str, dict[str, Any]]:
        # As Serve has them now: by an older view a sleeping pair may seem to start, and the question would wake it.
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        await asyncio.shield(self._looking)
        names = sorted(await self.names() - self._pooled)
        alone = await asyncio.gather(*(self._state(name, method) for name in names))
        return dict(zip(names, alone, strict=True)) | await self._pooled_states(method)

    async def _state(self, name: str, method: str) -> dict[str, Any]:
        application = self._applications[name]
        if _sleeps(application):
            return _NO_STATE | {"ready": True, "asleep": True}
        deployed_s, settled = application.last_deployed_time_s, self._settled.get(name)
        if method == "status" and settled is not None and settled.holds(deployed_s):
            return settled.state
        try:
            state = await self._ask(name, method)
        except Problem as problem:
            return _NO_STATE | {"reason": problem.detail}
        if state["ready"] and state["serves"] == state["wanted"]:
            self._settled[name] = _Settled(state, deployed_s, time.monotonic() + _SETTLED_LIVES_S)
        return state

    async def _pooled_states(self, method: str) -> dict[str, dict[str, Any]]:
        if not self._pooled:
            return {}
        try:
            return await self._ask(POOL, "states", method)
        except Problem as problem:
            return {name: _NO_STATE | {"reason": problem.detail} for name in self._pooled}

    async def _ask(self, name: str, method: str, *arguments: object) -> dict[str, Any]:
        # Every method may be asked twice, and a killed replica has a successor within seconds.
        give_up_at = time.monotonic() + _GIVE_UP_AFTER_S
        for attempt in range(_ATTEMPTS):
            try:
                handle = await self._handle(name)
                answer = handle.options(method_name=method).remote(*arguments)
                patience_s = min(_ANSWER_WITHIN_S, give_up_at - time.monotonic())
                return dict(await asyncio.wait_for(answer, patience_s))
            except (RayError, RayServeException, TimeoutError) as error:
                _log.warning("%s did not answer %s (attempt %d): %s", name, method, attempt + 1, error)
                self._handles.pop(name, None)
        raise unavailable("no-answer", f"{name} does not answer at the moment: try again in a few seconds")

    async def _handle(self, name: str) -> DeploymentHandle[Any]:
        if name not in self._handles:
            self._handles[name] = await asyncio.to_thread(serve.get_app_handle, name)
        return self._handles[name]


def _sleeps(application: ApplicationStatusOverview) -> bool:
    """Scaled to zero, and not on its way up."""
    states = [deployment.replica_states for deployment in application.deployments.values()]
    return application.status == ApplicationStatus.RUNNING and not any(
        each.get(state, 0) for each in states for state in (ReplicaState.RUNNING, ReplicaState.STARTING)
    )
