"""The command line of 2022 on a real stack: the schedule, and one component after the other down and up again.

The fixture `stack` has started it with these commands. This file is the last of the folder, because it ends the stack.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import httpx
import psutil
import pytest

from make_us_rich.embedded.components import AIRFLOW
from tests.support.airflow_api import is_paused
from tests.support.embedded_stack import EmbeddedStack

pytestmark = pytest.mark.timeout(600)

SERVERS = {"postgres", "s3", "mlflow", "ray", "exchange", "discord"}


def test_each_component_is_started_with_what_it_needs(
    stack: EmbeddedStack, programs_after: dict[str, set[str]]
) -> None:
    assert programs_after == {
        "init": set(),
        "interface": {"postgres", "dash"},
        "serving": {"dash", "serve", *SERVERS},
        "training": {"dash", "serve", *SERVERS, *AIRFLOW},
    }


def test_the_schedule_is_started_and_stopped(stack: EmbeddedStack) -> None:
    for word, paused in (("start", False), ("stop", True)):
        assert any(is_paused(stack.airflow, dag) is not paused for dag in stack.airflow.dag_ids())
        assert "train_pairs" in stack.did(word, "agent")
        assert {is_paused(stack.airflow, dag) for dag in stack.airflow.dag_ids()} == {paused}


def test_each_component_is_stopped_and_the_api_is_started_again(stack: EmbeddedStack) -> None:
    stack.did("stop", "serving")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{stack.config.url('api')}/healthz", timeout=5)
    stack.stop_ending_scheduled_runs()
    stack.did("stop", "training")
    stack.did("stop", "interface")
    assert stack.running_programs() == SERVERS
    with _ray_killed_while_it_deploys(stack):
        stack.did("start", "serving")
    assert httpx.get(f"{stack.config.url('api')}/healthz", timeout=30).json() == {"status": "ok"}

    stack.did("stop")
    assert stack.running_programs() == set()


@contextmanager
def _ray_killed_while_it_deploys(stack: EmbeddedStack) -> Iterator[None]:
    def kill() -> None:
        while not any(_deploys(process) for process in psutil.process_iter()):
            time.sleep(0.05)
        stack.kill("ray")

    killer = Thread(target=kill)
    killer.start()
    yield
    killer.join()


def _deploys(process: psutil.Process) -> bool:
    with suppress(psutil.Error):  # it ended meanwhile
        return "serve_app.deploy" in process.cmdline()
    return False
