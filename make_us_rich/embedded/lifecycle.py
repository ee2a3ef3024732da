"""Start and stop the stack or one of its services, and report its state."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from make_us_rich.core.errors import ComponentDied, MakeUsRichError, ServingError, StackError
from make_us_rich.core.responses import bearer
from make_us_rich.database.pool import POSTGRES_UNAVAILABLE
from make_us_rich.embedded.components import (
    PROGRAMS_OF_SERVICE,
    Component,
    Service,
    SetupTask,
    components,
    required_by,
    responds,
    setup_tasks,
)
from make_us_rich.embedded.environment import StackSecrets, load_or_create_secrets, stack_environment
from make_us_rich.embedded.ports import check_ports
from make_us_rich.embedded.stack_config import StackConfig, saved_stack_config
from make_us_rich.embedded.supervisor import ProgramState, Supervisor

READY_TIMEOUT_S = 300.0
_POLL_S = 0.25
_STOP_SERVING_TIMEOUT_S = 60.0
_EXITS = 3  # of a program that is not ready yet; the pauses between them are supervisord's
_TASK_PAUSES_S = (2.0, 5.0)
_WAY_OUT = "What runs stays up: `mkrich up` goes on from here, `mkrich down` ends it"
_TRANSIENT = (MakeUsRichError, *POSTGRES_UNAVAILABLE, httpx.HTTPError, OSError)

OnReady = Callable[[str, float], None]
"""Receives the name of a component or setup task, and the seconds since the start."""


@dataclass(frozen=True)
class Stack:
    """A stack's configuration, secrets, and the environment that all its programs get."""

    config: StackConfig
    secrets: StackSecrets
    environment: Mapping[str, str]


def open_stack(config: StackConfig, *, dags_paused: bool = False) -> Stack:
    """Return the stack of this configuration; its secrets are created at the first call.

    `dags_paused`: as for `stack_environment`.
    """
    secrets = load_or_create_secrets(config.state / "secrets.json")
    return Stack(config, secrets, stack_environment(config, secrets, dags_paused=dags_paused))


def up(
    config: StackConfig,
    on_ready: OnReady = lambda name, seconds: None,
    service: Service | None = None,
    dags_paused: bool = False,
) -> Stack:
    """Start the whole stack, or one service with its dependencies, and return when every component is ready.

    Programs that run already are left alone. A failure leaves what runs: the next call goes on from there.
    `dags_paused`: as for `stack_environment`.

    Raises:
        PortTaken: another process listens on one of the ports.
        ComponentDied: a component exited several times; the message has the end of its log.
        StackError: a component is not ready in time, a setup task failed several times, a stack of another market is
            up, or one whose supervisord was killed.
    """
    running = saved_stack_config()
    supervisor = Supervisor(config)
    is_new = running is None or not Supervisor(running).is_running()
    if running and not is_new and running != config:
        raise StackError(f"a stack with the {running.market} market is up: `mkrich down` first")
    if is_new:
        if left := supervisor.processes():
            found = f"supervisord does not answer, but {len(left)} processes of the stack run"
            raise StackError(f"{found}: `mkrich down`, then `mkrich up`")
        check_ports(config.port_base)
        config.make_runtime_folder()
    elif service is None and _is_complete(supervisor, config):
        return open_stack(config)
    stack = open_stack(config, dags_paused=dags_paused)
    config.save()
    programs = components(config, stack.secrets)
    if is_new:
        supervisor.launch([component.program for component in programs], stack.environment)
    try:
        _start_in_order(stack, programs, supervisor, on_ready, service)
    except KeyboardInterrupt:
        if is_new:
            down(config)
        raise
    return stack


def _is_complete(supervisor: Supervisor, config: StackConfig) -> bool:
    return all(state.state == "RUNNING" for state in supervisor.states()) and responds(f"{config.url('api')}/healthz")


def _start_in_order(
    stack: Stack, programs: list[Component], supervisor: Supervisor, on_ready: OnReady, service: Service | None
) -> None:
    """Run each component and setup task in a thread as soon as everything it depends on is ready."""
    began = time.monotonic()
    items: list[Component | SetupTask] = [*programs, *setup_tasks(stack.config, stack.secrets, stack.environment)]
    pending = {item.name: item for item in items}
    if service is not None:
        required = required_by(service, {name: item.depends_on for name, item in pending.items()})
        pending = {name: pending[name] for name in required}

    running: dict[Future[None], str] = {}
    ready: set[str] = set()
    failure: BaseException | None = None
    pool = ThreadPoolExecutor(max_workers=len(pending))
    try:
        while True:
            for name in [name for name, item in pending.items() if ready.issuperset(item.depends_on)]:
                running[pool.submit(_start, pending.pop(name), supervisor, stack.config)] = name
            if not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = running.pop(future)
                if error := future.exception():
                    failure = failure or error
                else:
                    ready.add(name)
                    on_ready(name, time.monotonic() - began)
    finally:
        # After Ctrl-C the other threads end by themselves, when `down` stops supervisord.
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure
    supervisor.wait_until_running([program.name for program in programs if program.name in ready])


def _start(item: Component | SetupTask, supervisor: Supervisor, config: StackConfig) -> None:
    if isinstance(item, SetupTask):
        _run_task(item)
    else:
        _start_component(item, supervisor, config)


def _run_task(task: SetupTask) -> None:
    """Run a setup task, again if it fails: on a busy machine a server gives up connections, and work takes too long."""
    for pause_s in (*_TASK_PAUSES_S, None):
        try:
            return task.run()
        except _TRANSIENT as error:
            if pause_s is None:
                raise StackError(f"{task.name}: {str(error).strip()}. {_WAY_OUT}") from error
            time.sleep(pause_s)


def _start_component(component: Component, supervisor: Supervisor, config: StackConfig) -> None:
    """Start a program and wait until it is ready; supervisord starts it again when it ends."""
    name = component.name
    supervisor.start(name)
    deadline = time.monotonic() + READY_TIMEOUT_S
    starts: set[int] = set()  # a start may be over before it is seen, so the times are counted, not the states
    while not component.is_ready():
        state = next(state for state in supervisor.states() if state.name == name)
        starts.add(state.started_at)
        if state.is_down and len(starts) >= _EXITS:
            raise ComponentDied(f"{name} ends while starting. {_WAY_OUT}. Its log:\n{log_tail(config, name)}")
        if time.monotonic() > deadline:
            raise StackError(
                f"{name} is not ready after {READY_TIMEOUT_S:.0f} s. {_WAY_OUT}. Its log:\n{log_tail(config, name)}"
            )
        time.sleep(_POLL_S)


def stop_service(config: StackConfig, service: Service) -> None:
    """Stop the programs that only this service uses. Raises ServingError when Ray does not stop serving."""
    supervisor = Supervisor(config)
    for name in PROGRAMS_OF_SERVICE[service]:
        supervisor.stop(name)
    if service == "serving":
        url = config.url("ray_dashboard")
        headers = bearer(open_stack(config).secrets.ray_token)
        try:
            answer = httpx.delete(f"{url}/api/serve/applications/", headers=headers, timeout=_STOP_SERVING_TIMEOUT_S)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ServingError(f"Ray at {url} did not stop serving: {error}") from None


def down(config: StackConfig) -> None:
    """Stop every process of the stack; its data stays."""
    Supervisor(config).shut_down()


def log_path(config: StackConfig, name: str) -> Path:
    return config.logs / f"{name}.log"


def log_tail(config: StackConfig, name: str, lines: int = 20) -> str:
    """Return the last lines of a component's log."""
    path = log_path(config, name)
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(empty)"


def status(config: StackConfig) -> list[ProgramState]:
    """Return each program's state; empty when the stack is down."""
    supervisor = Supervisor(config)
    return supervisor.states() if supervisor.is_running() else []


def processes(config: StackConfig) -> set[psutil.Process]:
    """Return every process of the stack, also after its supervisord was killed."""
    return Supervisor(config).processes()


def memory_bytes(config: StackConfig) -> dict[str, int]:
    """Return the proportional memory (PSS) of each program with its descendants; the rest is under `other`."""
    return measure(config, lambda process: int(process.memory_full_info().pss))


def measure(config: StackConfig, of: Callable[[psutil.Process], int]) -> dict[str, int]:
    """Return the sum of a measure over each program's processes; those of no program are under `other`."""
    names = {state.pid: state.name for state in status(config) if state.pid}
    totals: dict[str, int] = {}
    for process in processes(config):
        try:
            ancestry = [process, *process.parents()]
            owner = next((names[member.pid] for member in ancestry if member.pid in names), "other")
            totals[owner] = totals.get(owner, 0) + of(process)
        except psutil.Error:
            continue
    return totals
