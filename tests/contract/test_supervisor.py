"""Programs under a real supervisord."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from make_us_rich.core.errors import StackError
from make_us_rich.embedded import supervisor
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.embedded.supervisor import Program, Supervisor
from tests.support.folders import traversable_folder
from tests.support.waiting import wait_until

# Stops as a database does: it takes a moment, and then everything is on disk.
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


@pytest.mark.parametrize("at_once", [1, 2])
def test_stores_stop_after_the_others_and_are_not_killed(tmp_path: Path, at_once: int) -> None:
    """Neither does a second `mkrich down` at the same time kill them."""
    script, order = tmp_path / "store.py", tmp_path / "order"
    script.write_text(STORE)
    with traversable_folder() as home:
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
        for name in stops_last:
            supervised.start(name)
        wait_until(lambda: all(Path(f"{order}{name}").exists() for name in stops_last), 60, "a program does not start")

        with ThreadPoolExecutor(at_once) as pool:
            for done in [pool.submit(supervised.shut_down) for _ in range(at_once)]:
                done.result()

    assert order.read_text().split() == ["application", "database"]
    assert supervised.processes() == set()
