"""Programs under a real supervisord."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from make_us_rich.core.errors import StackError
from make_us_rich.embedded import pauses, supervisor
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.embedded.supervisor import Program, Supervisor
from tests.support.folders import traversable_folder
from tests.support.processes import PROJECT_ROOT
from tests.support.waiting import wait_until

# Stops as a database does: it takes a moment, and then everything is on disk.
STORE_FILE = "a_store.py"
STORE = """
import signal, sys, time

def stop(*_):
    time.sleep(0.5)
    with open(sys.argv[1], "a") as file:
        file.write(sys.argv[2] + " ")
    sys.exit()

signal.signal(signal.SIGTERM, stop)
open(sys.argv[1] + sys.argv[2], "w").close()
time.sleep(60)
"""


@pytest.fixture(scope="module")
def supervised() -> Iterator[Supervisor]:
    with traversable_folder() as home:
        config = StackConfig("simulated", home)
        config.make_runtime_folder()
        supervised = Supervisor(config)
        supervised.launch(
            [Program("stays", [sys.executable, "-c", "import time; time.sleep(60)"]), Program("ends", ["/bin/false"])],
            {},
        )
        yield supervised
        supervised.shut_down()


@pytest.fixture(scope="module", autouse=True)
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    """Run all stacks at the same time, each in a folder of its own: supervisord waits for its next second all the time.

    Gives what came of each by the name of its folder or of its trouble.
    """
    with ThreadPoolExecutor(20) as pool, _database_with_a_full_disk(tmp_path_factory.mktemp("retried")) as retried:
        jobs = {"full disk": pool.submit(retried)}
        jobs |= {each: pool.submit(_stop_in_trouble, each, tmp_path_factory.mktemp("store")) for each in TROUBLES}
        jobs |= {name: pool.submit(_program_below, name) for name in NAMES}
        yield jobs


def test_a_program_that_just_started_is_waited_for_and_one_that_ends_is_an_error(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised.start("ends")
    supervised.start("stays")
    assert [state.state for state in supervised.states() if state.name == "stays"] == ["STARTING"]

    supervised.wait_until_running(["stays"])

    assert [state.state for state in supervised.states() if state.name == "stays"] == ["RUNNING"]
    monkeypatch.setattr(supervisor, "_START_TIMEOUT_S", 0.2)  # the other one had as long as this one
    with pytest.raises(StackError, match="ends"):
        supervised.wait_until_running(["ends"])


@contextmanager
def _store_and_application(order: Path, home: Path) -> Iterator[Supervisor]:
    """Run a database and an application, which write their names to `order` when they end."""
    script = order.with_name(STORE_FILE)
    script.write_text(STORE)
    config = StackConfig("simulated", home)
    config.make_runtime_folder()
    supervised = Supervisor(config)
    stops_last = {"database": True, "application": False}
    supervised.launch(
        [
            Program(name, [sys.executable, str(script), str(order), name], stops_last=last)
            for name, last in stops_last.items()
        ],
        {},
    )
    try:
        for name in stops_last:
            supervised.start(name)
        wait_until(lambda: all(Path(f"{order}{name}").exists() for name in stops_last), 60, "a program does not start")
        yield supervised
    finally:
        supervised.shut_down()
    assert order.read_text().split() == ["application", "database"]
    assert supervised.processes() == set()


def _shut_down_twice_at_once(supervised: Supervisor, home: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(supervised.shut_down) for _ in range(2)]:
            done.result()


def _remove_the_socket(supervised: Supervisor, home: Path) -> None:
    (StackConfig("simulated", home).runtime / "supervisor.sock").unlink()


def _kill_supervisord(supervised: Supervisor, home: Path) -> None:
    (parent,) = {process.ppid() for process in supervised.processes() if STORE_FILE in process.cmdline()[1]}
    psutil.Process(parent).kill()


TROUBLES = {
    "two shut-downs at once": _shut_down_twice_at_once,
    "no socket": _remove_the_socket,
    "supervisord was killed": _kill_supervisord,
}


def _stop_in_trouble(trouble: str, folder: Path) -> None:
    with traversable_folder() as home, _store_and_application(folder / "order", home) as supervised:
        TROUBLES[trouble](supervised, home)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_trouble_of_the_supervisor_kills_a_store(outcomes: dict[str, Future[None]], trouble: str) -> None:
    outcomes[trouble].result()


NAMES = ("100%25", "%(ENV_HOME)s", "a ; b", "a # b", 'quote\'d "twice"', "币 安", "b$HOME", "[x]")


def _program_below(name: str) -> tuple[list[str], str]:
    """Run a program of a stack in a folder of this name; returns what it was given and what it wrote."""
    with traversable_folder() as home:
        config = StackConfig("simulated", home / name)
        config.make_runtime_folder()
        supervised, given = Supervisor(config), [str(config.state), "100%d"]
        said = "import sys, time; print(sys.argv[1:], flush=True); time.sleep(60)"
        supervised.launch([Program("echo", [sys.executable, "-c", said, *given])], dict(os.environ))
        try:
            supervised.start("echo")
            log = config.logs / "echo.log"
            wait_until(lambda: log.exists() and log.read_text(), 60, "the program says nothing")
            return given, log.read_text()
        finally:
            supervised.shut_down()
            shutil.rmtree(config.runtime)


@pytest.mark.parametrize("name", NAMES)
def test_folders_of_any_name_hold_a_stack(outcomes: dict[str, Future[tuple[list[str], str]]], name: str) -> None:
    given, said = outcomes[name].result()
    assert said.strip() == str(given)


def test_stores_stop_after_the_others_with_another_tmpdir_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, Future[Any]]
) -> None:
    wait([outcomes[each] for each in (*TROUBLES, *NAMES)])  # whose folders of sockets belong below the first one
    with traversable_folder() as home, _store_and_application(tmp_path / "order", home) as supervised:
        monkeypatch.setattr(tempfile, "tempdir", str(home))
        assert supervised.is_running()


@contextmanager
def _database_with_a_full_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """Run a program that ends until there is space; gives a function that waits until it is started with space."""
    tries, space, started = folder / "tries", folder / "space", folder / "started"
    database = f"echo x >> {tries}; if test -e {space}; then touch {started}; exec sleep 60; fi"
    with traversable_folder() as home:
        config = StackConfig("simulated", home)
        config.make_runtime_folder()
        supervised = Supervisor(config)
        program = Program("database", ["/bin/sh", "-c", database], min_uptime_s=60)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(supervisor, "_PAUSES", f"{__name__}:without_pauses")
            supervised.launch([program], {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)})

        def retried() -> None:
            try:
                supervised.start("database")
                wait_until(lambda: tries.exists() and len(tries.read_text().split()) > 4, 60, "it is given up")
                space.touch()
                wait_until(started.exists, 60, "it is not started any more")
            finally:
                supervised.shut_down()

        yield retried


def without_pauses(supervisord: Any) -> None:
    """Run by supervisord in place of the plugin that limits its pauses."""
    pauses.LONGEST_S = 0
    pauses.limit_pauses(supervisord)


def test_a_program_that_does_not_start_is_tried_again_without_end(outcomes: dict[str, Future[None]]) -> None:
    """As Postgres while its disk is full: supervisord alone would give it up after four tries."""
    outcomes["full disk"].result()
