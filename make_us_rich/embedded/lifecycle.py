"""Bring the stack up in the order of its needs, take it down, say how it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import psutil

from make_us_rich.core.errors import ComponentDied, StackError
from make_us_rich.embedded.components import Component, answers, components
from make_us_rich.embedded.environment import StackSecrets, load_or_create_secrets, stack_environment
from make_us_rich.embedded.stack_config import PROGRAMS, Service, StackConfig, check_ports, needed, saved_stack_config
from make_us_rich.embedded.steps import shut_down_serving, steps
from make_us_rich.embedded.supervisor import ProgramState, Supervisor

READY_TIMEOUT_S = 300.0
_POLL_S = 0.25
STORES = ("postgres", "s3")


@dataclass(frozen=True)
class Stack:
    config: StackConfig
    secrets: StackSecrets
    environment: Mapping[str, str]


def open_stack(config: StackConfig) -> Stack:
    """The stack's secrets and environment, made when they are not there yet."""
    secrets = load_or_create_secrets(config.state / "secrets.json")
    return Stack(config, secrets, stack_environment(config, secrets))


def up(
    config: StackConfig,
    on_ready: Callable[[str, float], None] = lambda name, seconds: None,
    part: Service | None = None,
) -> Stack:
    """Start everything, or one part with what it needs; returns when every component of it answers.

    What runs already stays as it is. `on_ready` gets each component's name and the seconds since the start. Raises
    PortTaken, ComponentDied (with the tail of the component's log) or StackError; what this call launched is
    stopped again then.
    """
    running = saved_stack_config()
    supervisor = Supervisor(config)
    is_new = running is None or not Supervisor(running).is_running()
    if running and not is_new and running != config:
        raise StackError(f"a stack with the {running.market} market is up: `mkrich down` first")
    if is_new:
        check_ports(config)
        config.make_runtime_folder()
    elif part is None and _is_whole(supervisor, config):
        return open_stack(config)
    stack = open_stack(config)
    config.save()
    parts = components(config, stack.secrets)
    if is_new:
        supervisor.launch([component.program for component in parts], stack.environment)
    try:
        _start_in_order(stack, parts, supervisor, on_ready, part)
    except BaseException:
        if is_new:
            down(config)
        raise
    return stack


def _is_whole(supervisor: Supervisor, config: StackConfig) -> bool:
    return all(state.state == "RUNNING" for state in supervisor.states()) and answers(f"{config.url('api')}/healthz")


def _start_in_order(
    stack: Stack,
    parts: list[Component],
    supervisor: Supervisor,
    on_ready: Callable[[str, float], None],
    part: Service | None,
) -> None:
    began = time.monotonic()
    work: dict[str, tuple[list[str], Callable[[], None]]] = {
        part.name: (list(part.after), lambda part=part: _start(part, supervisor, stack.config))  # type: ignore[misc]
        for part in parts
    }
    for step in steps(stack.config, stack.secrets, stack.environment):
        work[step.name] = (list(step.after), step.run)
    if part is not None:
        chosen = needed(part, {name: after for name, (after, _) in work.items()})
        work = {name: work[name] for name in chosen}

    pending = dict(work)
    running: dict[Future[None], str] = {}
    done: set[str] = set()
    pool = ThreadPoolExecutor(max_workers=len(work))
    try:
        while pending or running:
            for name in [name for name, (after, _) in pending.items() if done.issuperset(after)]:
                running[pool.submit(pending.pop(name)[1])] = name
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                name = running.pop(future)
                done.add(name)
                on_ready(name, time.monotonic() - began)
    finally:
        # after a failure the others end by themselves, when `down` takes the supervisor from them
        pool.shutdown(wait=False, cancel_futures=True)


def _start(part: Component, supervisor: Supervisor, config: StackConfig) -> None:
    supervisor.start(part.name)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not part.is_ready():
        state = next(state for state in supervisor.states() if state.name == part.name)
        if state.is_down:
            raise ComponentDied(f"{part.name} ended while starting. Its log:\n{log_tail(config, part.name)}")
        if time.monotonic() > deadline:
            raise StackError(
                f"{part.name} is not ready after {READY_TIMEOUT_S:.0f} s. Its log:\n" + log_tail(config, part.name)
            )
        time.sleep(_POLL_S)


def stop(config: StackConfig, part: Service) -> None:
    """Stop what only this part needs; stores, registry and Ray stay up for the others. Raises ServingError."""
    if part == "serving":
        shut_down_serving(config.url("ray_dashboard"), open_stack(config).secrets.ray_token)
    supervisor = Supervisor(config)
    for name in PROGRAMS[part]:
        supervisor.stop(name)


def down(config: StackConfig) -> None:
    """Stop every process of the stack; its data stays."""
    Supervisor(config).shut_down(STORES)


def log_tail(config: StackConfig, name: str, lines: int = 20) -> str:
    path = log_path(config, name)
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(empty)"


def log_path(config: StackConfig, name: str) -> Path:
    return config.logs / f"{name}.log"


def status(config: StackConfig) -> list[ProgramState]:
    """Each program's state; empty when the stack is down."""
    supervisor = Supervisor(config)
    return supervisor.states() if supervisor.is_running() else []


def memory_bytes(config: StackConfig) -> dict[str, int]:
    """Proportional memory (PSS) by program, each with its descendants; what no program claims is `other`."""
    roots = {state.pid: state.name for state in status(config) if state.pid}
    totals: dict[str, int] = {}
    for process in Supervisor(config).processes():
        try:
            owner = _owner(process, roots)
            totals[owner] = totals.get(owner, 0) + process.memory_full_info().pss
        except psutil.Error:
            continue
    return totals


def _owner(process: psutil.Process, roots: Mapping[int, str]) -> str:
    lineage = [process, *process.parents()]
    return next((roots[member.pid] for member in lineage if member.pid in roots), "other")
