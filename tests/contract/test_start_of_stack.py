"""The start of a stack of a few small programs, under a real supervisord."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import psycopg2
import pytest

from make_us_rich.core.errors import ComponentDied, StackError
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.components import Component, SetupTask
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.embedded.supervisor import Program, ProgramState, Supervisor
from tests.support.folders import traversable_folder
from tests.support.ports import own_block

pytestmark = pytest.mark.timeout(120)

Start = Callable[[Sequence[Component], Sequence[SetupTask]], None]


def _component(name: str, script: str = "exec sleep 60", depends_on: Sequence[str] = ()) -> Component:
    return Component(Program(name, ["/bin/sh", "-c", script], min_uptime_s=1), depends_on, lambda: "sleep" in script)


def _nothing() -> None:
    """Take no time and do nothing."""


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Iterator[StackConfig]:
    with traversable_folder() as home:
        monkeypatch.setenv("MUR_STACK_HOME", str(home))
        monkeypatch.setattr(lifecycle, "_TASK_PAUSES_S", (0.0, 0.0))
        config = StackConfig("simulated", home / "simulated", own_block().stack_base)
        yield config
        lifecycle.down(config)


@pytest.fixture
def start(config: StackConfig, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return a function that starts a stack of these components and tasks."""

    def started(components: Sequence[Component], tasks: Sequence[SetupTask] = ()) -> None:
        monkeypatch.setattr(lifecycle, "components", lambda *_: list(components))
        monkeypatch.setattr(lifecycle, "setup_tasks", lambda *_: list(tasks))
        lifecycle.up(config)

    return started


def _running(config: StackConfig) -> set[str]:
    return {state.name for state in lifecycle.status(config) if state.state in ("STARTING", "RUNNING")}


def test_lost_connections_of_a_busy_machine_end_no_start(start: Start, config: StackConfig) -> None:
    lost = [psycopg2.OperationalError("server closed the connection"), StackError("serve_app.deploy failed")]

    def migrate() -> None:
        if lost:
            raise lost.pop()

    start(
        [_component("store"), _component("api", depends_on=["migration"])], [SetupTask("migration", ["store"], migrate)]
    )

    assert _running(config) == {"store", "api"}


def test_a_program_that_ends_at_first_ends_no_start(start: Start, config: StackConfig, tmp_path: Path) -> None:
    once = f"test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; exit 1; }}; exec sleep 60"

    start([Component(Program("store", ["/bin/sh", "-c", once], min_uptime_s=1), (), (tmp_path / "tried").exists)])

    assert _running(config) == {"store"}


def test_a_program_whose_starts_are_over_before_they_are_seen_ends_the_start(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Supervisor.states

    def only_down(supervisor: Supervisor) -> list[ProgramState]:
        found = read(supervisor)
        while not all(state.is_down for state in found):
            time.sleep(0.01)
            found = read(supervisor)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Supervisor, "states", only_down)
        with pytest.raises(ComponentDied, match="api ends while starting"):
            start([_component("api", "exit 1")], [])


def test_what_runs_stays_up_when_a_start_fails(start: Start, config: StackConfig) -> None:
    store, other = _component("store"), _component("other", depends_on=["slow"])
    slow = SetupTask("slow", ["store"], _nothing)
    with pytest.raises(
        ComponentDied, match=r"`mkrich up` goes on from here, `mkrich down` ends it(?s:.)*no space left"
    ):
        start([store, _component("api", "echo no space left; exit 1", ["store"]), other], [slow])
    assert _running(config) >= {"store", "other"}
    (pid,) = {state.pid for state in lifecycle.status(config) if state.name == "store"}

    failing = SetupTask("migration", ["store"], lambda: (_ for _ in ()).throw(StackError("the disk is full")))
    with pytest.raises(StackError, match=r"migration: the disk is full\. What runs stays up"):
        start([store, other], [slow, failing])

    start([store, other], [slow])
    assert pid in {state.pid for state in lifecycle.status(config)}, "the store was started again"


def test_ctrl_c_ends_a_new_stack(start: Start, config: StackConfig) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start([_component("store")], [SetupTask("task", ["store"], interrupt)])
    assert lifecycle.processes(config) == set()


def test_up_names_the_way_when_supervisord_was_killed(start: Start, config: StackConfig) -> None:
    start([_component("store")])
    (store,) = [process for process in lifecycle.processes(config) if process.name() == "sleep"]
    psutil.Process(store.ppid()).kill()

    with pytest.raises(StackError, match="1 processes of the stack run: `mkrich down`, then `mkrich up`"):
        start([_component("store")])

    assert store.is_running()
    lifecycle.down(config)
    start([_component("store")])
    assert _running(config) == {"store"}
