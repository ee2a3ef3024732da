"""Programs under a real supervisord."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

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
            [
                Program("stays", [sys.executable, "-c", "import time; time.sleep(60)"]),
                Program("ends", [sys.executable, "-c", "raise SystemExit(1)"]),
            ],
            {},
        )
        yield supervised
        supervised.shut_down()


def test_a_program_that_just_started_is_waited_for(supervised: Supervisor) -> None:
    supervised.start("stays")
    assert [state.state for state in supervised.states() if state.name == "stays"] == ["STARTING"]

    supervised.wait_until_running(["stays"])

    assert [state.state for state in supervised.states() if state.name == "stays"] == ["RUNNING"]


def test_a_program_that_ends_is_an_error(supervised: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_START_TIMEOUT_S", 3)
    supervised.start("ends")

    with pytest.raises(StackError, match="ends"):
        supervised.wait_until_running(["ends"])


def test_a_program_that_does_not_start_is_tried_again_without_end(tmp_path: Path) -> None:
    """As Postgres while its disk is full: supervisord alone would give it up after four tries."""
    tries, space, started = tmp_path / "tries", tmp_path / "space", tmp_path / "started"
    database = f"echo x >> {tries}; if test -e {space}; then touch {started}; exec sleep 60; fi"
    with traversable_folder() as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "_PAUSES", f"{__name__}:without_pauses")
        config = StackConfig("simulated", home)
        config.make_runtime_folder()
        supervised = Supervisor(config)
        program = Program("database", ["/bin/sh", "-c", database], min_uptime_s=60)
        supervised.launch([program], {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)})
        try:
            supervised.start("database")
            wait_until(lambda: tries.exists() and len(tries.read_text().split()) > 4, 60, "it is given up")
            space.touch()
            wait_until(started.exists, 60, "it is not started any more")
        finally:
            supervised.shut_down()


def without_pauses(supervisord: object) -> None:
    """Run by supervisord in place of the plugin that limits its pauses."""
    pauses.LONGEST_S = 0
    pauses.limit_pauses(supervisord)


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


@pytest.mark.parametrize("at_once", [1, 2])
def test_stores_stop_after_the_others_and_are_not_killed(tmp_path: Path, at_once: int) -> None:
    """Neither does a second `mkrich down` at the same time kill them."""
    with (
        traversable_folder() as home,
        _store_and_application(tmp_path / "order", home) as supervised,
        ThreadPoolExecutor(at_once) as pool,
    ):
        for done in [pool.submit(supervised.shut_down) for _ in range(at_once)]:
            done.result()


@pytest.mark.parametrize("trouble", ["another TMPDIR", "no socket", "supervisord was killed"])
def test_no_trouble_of_the_supervisor_kills_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    with traversable_folder() as home, _store_and_application(tmp_path / "order", home) as supervised:
        if trouble == "another TMPDIR":
            monkeypatch.setattr(tempfile, "tempdir", str(home))
            assert supervised.is_running()
        elif trouble == "no socket":
            (StackConfig("simulated", home).runtime / "supervisor.sock").unlink()
        else:
            (parent,) = {process.ppid() for process in supervised.processes() if STORE_FILE in process.cmdline()[1]}
            psutil.Process(parent).kill()


@pytest.mark.parametrize(
    "name", ["100%25", "%(ENV_HOME)s", "a ; b", "a # b", 'quote\'d "twice"', "币 安", "b$HOME", "[x]"]
)
def test_folders_of_any_name_hold_a_stack(name: str) -> None:
    with traversable_folder() as home:
        config = StackConfig("simulated", home / name)
        config.make_runtime_folder()
        supervised = Supervisor(config)
        said = "import sys, time; print(sys.argv[1:], flush=True); time.sleep(60)"
        supervised.launch([Program("echo", [sys.executable, "-c", said, str(config.state), "100%d"])], dict(os.environ))
        try:
            supervised.start("echo")
            log = config.logs / "echo.log"
            wait_until(lambda: log.exists() and log.read_text(), 60, "the program says nothing")
            assert log.read_text().strip() == str([str(config.state), "100%d"])
        finally:
            supervised.shut_down()
        shutil.rmtree(config.runtime)
