"""Calls to the replicas over Ray Serve, and the list of pairs that have one."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview
from ray.serve.schema import ReplicaState as ReplicaState  # type: ignore[attr-defined]  # schema.py only imports it

from make_us_rich.documents import Document, PairState, ReplicaError
from make_us_rich.pipeline.deployment import GATEWAY, POOL, REQUEST_TIMEOUT_S
from serve_app.problems import WARMING_S, Problem, unavailable

_log = logging.getLogger("ray.serve")

_APPLICATIONS_TTL_S = 1.0
_CALL_TIMEOUT_S = 10.0
_ATTEMPTS = 3
_GIVE_UP_AFTER_S = 0.8 * REQUEST_TIMEOUT_S  # so that our answer comes before Serve ends the request
# Long enough that health checks let a replica become idle and scale to zero.
_STATE_TTL_S = 10.0

StateMethod = Literal["state", "refresh"]

D = TypeVar("D", bound=Document)


class ReplicaClient(Protocol):
    """Calls forecasters by their application's name, such as btc_usdt_1h."""

    async def applications(self) -> frozenset[str]:
        """Return the names of the served pairs' applications."""
        ...

    async def call(self, name: str, method: str, *arguments: object) -> Document:
        """Call one method of a forecaster. Raises Problem 503 when no replica answers."""
        ...

    def is_scaled_to_zero(self, name: str) -> bool:
        """True for an idle replica that Serve stopped; the next call starts it."""
        ...

    async def states(self, method: StateMethod) -> dict[str, PairState]:
        """Return the state of each application; `refresh` fetches newer candles first. Starts no stopped replica."""
        ...


async def ask(replicas: ReplicaClient, kind: type[D], name: str, method: str, *arguments: object) -> D:
    """Return the document that a forecaster's method answers. Raises Problem 404, 422 or 503 when it has no answer."""
    answer = await replicas.call(name, method, *arguments)
    if isinstance(answer, ReplicaError):
        if answer.kind == "not-ready":
            raise unavailable("warming", f"{name} has no forecast yet: {answer.detail}", WARMING_S)
        if answer.kind == "no-model":
            raise Problem(404, "no-such-model", answer.detail, field=answer.field)
        raise Problem(422, "bad-input", answer.detail, field=answer.field)
    assert isinstance(answer, kind)
    return answer


@dataclass(frozen=True)
class _CachedState:
    """The state of a replica that serves what it should, until it expires or a new deployment changes it."""

    state: PairState
    deployed_s: float
    expires_at: float

    def is_valid(self, deployed_s: float) -> bool:
        return deployed_s == self.deployed_s and time.monotonic() < self.expires_at


class ServeReplicaClient:
    """Asks Ray Serve's controller which applications run, so that pairs come and go without a gateway restart."""

    def __init__(self) -> None:
        self._names: frozenset[str] | None = None
        self._pooled: frozenset[str] = frozenset()
        self._applications: dict[str, ApplicationStatusOverview] = {}
        self._states: dict[str, _CachedState] = {}
        self._applications_expire_at = 0.0
        self._handles: dict[str, DeploymentHandle[Any]] = {}
        self._refreshing: asyncio.Task[None] | None = None

    async def applications(self) -> frozenset[str]:
        """Return the names known so far and refresh them in the background (TTL 1 s); only the first call waits."""
        if time.monotonic() >= self._applications_expire_at and self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh_applications())
        if self._names is None and self._refreshing is not None:
            await asyncio.shield(self._refreshing)
        return self._names or frozenset()

    async def _refresh_applications(self) -> None:
        try:
            status = await asyncio.to_thread(serve.status)
            # A deleted application takes half a minute more for its running calls.
            staying = {name for name, app in status.applications.items() if app.status != ApplicationStatus.DELETING}
            self._handles = {name: self._handles[name] for name in self._handles if name in staying}
            self._states = {name: self._states[name] for name in self._states if name in staying}
            if POOL not in staying:
                self._pooled = frozenset()
            elif self._pooled or status.applications[POOL].status == ApplicationStatus.RUNNING:
                self._pooled = frozenset(await self._call(POOL, "names"))
            self._applications = status.applications
            self._names = frozenset(staying - {GATEWAY, POOL}) | self._pooled
        except (RayError, RayServeException, Problem) as error:
            _log.warning("Ray Serve does not answer, the pairs known so far stay: %s", error)
        finally:
            self._applications_expire_at = time.monotonic() + _APPLICATIONS_TTL_S
            self._refreshing = None

    async def call(self, name: str, method: str, *arguments: object) -> Document:
        if name in self._pooled:
            answer: Document = await self._call(POOL, "call", name, method, *arguments)
        else:
            answer = await self._call(name, method, *arguments)
        return answer

    def is_scaled_to_zero(self, name: str) -> bool:
        return name in self._applications and _is_scaled_to_zero(self._applications[name])

    async def states(self, method: StateMethod) -> dict[str, PairState]:
        # From Serve's present status: by an older one a stopped replica may seem to start, and the call would start it.
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh_applications())
        await asyncio.shield(self._refreshing)
        names = sorted(await self.applications() - self._pooled)
        dedicated = await asyncio.gather(*(self._state(name, method) for name in names))
        return dict(zip(names, dedicated, strict=True)) | await self._pooled_states(method)

    async def _state(self, name: str, method: StateMethod) -> PairState:
        application = self._applications[name]
        if _is_scaled_to_zero(application):
            return PairState.scaled_to_zero()
        deployed_s, cached = application.last_deployed_time_s, self._states.get(name)
        if method == "state" and cached is not None and cached.is_valid(deployed_s):
            return cached.state
        try:
            state: PairState = await self._call(name, method)
        except Problem as problem:
            return PairState.unreachable(problem.detail)
        if state.ready and state.serves == state.wanted:
            self._states[name] = _CachedState(state, deployed_s, time.monotonic() + _STATE_TTL_S)
        return state

    async def _pooled_states(self, method: StateMethod) -> dict[str, PairState]:
        if not self._pooled:
            return {}
        try:
            states: dict[str, PairState] = await self._call(POOL, "states", method)
        except Problem as problem:
            return dict.fromkeys(self._pooled, PairState.unreachable(problem.detail))
        return states

    async def _call(self, name: str, method: str, *arguments: object) -> Any:
        """Retry a few times: every method is safe to repeat, and a killed replica has a successor within seconds."""
        give_up_at = time.monotonic() + _GIVE_UP_AFTER_S
        for attempt in range(_ATTEMPTS):
            try:
                handle = await self._handle(name)
                answer = handle.options(method_name=method).remote(*arguments)
                return await asyncio.wait_for(answer, min(_CALL_TIMEOUT_S, give_up_at - time.monotonic()))
            except (RayError, RayServeException, TimeoutError) as error:
                _log.warning("%s did not answer %s (attempt %d): %s", name, method, attempt + 1, error)
                self._handles.pop(name, None)
        raise unavailable("no-answer", f"{name} does not answer at the moment: try again in a few seconds")

    async def _handle(self, name: str) -> DeploymentHandle[Any]:
        if name not in self._handles:
            self._handles[name] = await asyncio.to_thread(serve.get_app_handle, name)
        return self._handles[name]


def _is_scaled_to_zero(application: ApplicationStatusOverview) -> bool:
    """True for a running application that has no replica and starts none."""
    counts = [deployment.replica_states for deployment in application.deployments.values()]
    return application.status == ApplicationStatus.RUNNING and not any(
        each.get(state, 0) for each in counts for state in (ReplicaState.RUNNING, ReplicaState.STARTING)
    )
