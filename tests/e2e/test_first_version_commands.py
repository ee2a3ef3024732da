"""The command line of 2022 on a real stack: a component at a time, then the schedule, then all of it down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import httpx
import psutil
import pytest

from make_us_rich.embedded.components import AIRFLOW
from make_us_rich.embedded.environment import ADMIN, load_or_create_secrets
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.operations.airflow import Airflow
from tests.support.airflow_api import is_paused
from tests.support.embedded_stack import kill_program
from tests.support.folders import traversable_folder

pytestmark = pytest.mark.timeout(900)

PORT_BASE = 14_000
SERVERS = {"postgres", "s3", "mlflow", "ray", "exchange", "discord"}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with traversable_folder() as folder:
        yield folder
        _mkrich(folder, "stop")


@pytest.fixture(scope="module")
def config(home: Path) -> StackConfig:
    return StackConfig("simulated", home / "simulated", PORT_BASE)


def test_each_component_is_prepared_run_and_stopped(home: Path, config: StackConfig) -> None:
    for service in ("serving", "interface", "training"):
        assert f"mkrich run {service}" in _mkrich(home, "init", service)
    secrets = load_or_create_secrets(config.state / "secrets.json")
    assert _running(home) == set()

    assert config.url("dash") in _mkrich(home, "run", "interface")
    assert _running(home) == {"postgres", "dash"}
    assert httpx.get(f"{config.url('dash')}/login", timeout=30).status_code == 200

    assert config.url("api") in _mkrich(home, "run", "SERVING")
    assert _running(home) == {"dash", *SERVERS}
    assert httpx.get(config.url("api"), follow_redirects=True, timeout=30).url.path == "/docs"

    assert "mkrich start agent" in _mkrich(home, "run", "training")
    assert _running(home) == {"dash", *SERVERS, *AIRFLOW}
    with Airflow(config.url("airflow"), ADMIN, secrets.admin_password) as airflow:
        for word, paused in (("start", False), ("stop", True)):
            assert all(is_paused(airflow, dag) is not paused for dag in airflow.dag_ids())
            assert "train_pairs" in _mkrich(home, word, "agent")
            assert [is_paused(airflow, dag) for dag in ("train_pairs", "train_foundation")] == [paused] * 2

    _mkrich(home, "stop", "serving")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{config.url('api')}/healthz", timeout=5)
    _mkrich(home, "stop", "training")
    _mkrich(home, "stop", "interface")
    assert _running(home) == SERVERS
    with _ray_killed_while_it_deploys(config):
        _mkrich(home, "start", "serving")
    assert httpx.get(f"{config.url('api')}/healthz", timeout=30).json() == {"status": "ok"}

    _mkrich(home, "stop")
    assert _running(home) == set()


@contextmanager
def _ray_killed_while_it_deploys(config: StackConfig) -> Iterator[None]:
    def kill() -> None:
        while not any(_deploys(process) for process in psutil.process_iter()):
            time.sleep(0.05)
        kill_program(config, "ray")

    killer = Thread(target=kill)
    killer.start()
    yield
    killer.join()


def _deploys(process: psutil.Process) -> bool:
    with suppress(psutil.Error):  # it ended meanwhile
        return "serve_app.deploy" in process.cmdline()
    return False


def _mkrich(home: Path, *arguments: str) -> str:
    done = _call(home, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def _running(home: Path) -> set[str]:
    """The programs that run, by `mkrich status`, which exits with 1 while some do not."""
    programs = json.loads(_call(home, "status", "--json").stdout)
    return {program["name"] for program in programs if program["state"] == "RUNNING"}


def _call(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "mkrich"), *arguments]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MUR_")}
    environment = kept | {"MUR_STACK_HOME": str(home), "MUR_PORT_BASE": str(PORT_BASE)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
