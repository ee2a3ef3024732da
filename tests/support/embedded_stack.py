"""The embedded stack as `mkrich up` starts it, with methods to trigger runs, kill programs and read the outcome."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import psutil

from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.environment import ADMIN, database_url, load_or_create_secrets
from make_us_rich.embedded.stack_config import Market, StackConfig
from make_us_rich.embedded.supervisor import Supervisor
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.pipeline.airflow import ENDED, Airflow, AirflowError
from make_us_rich.registry.client import Registry
from tests.support.airflow_api import end_run
from tests.support.folders import traversable_folder
from tests.support.listening_sockets import ListeningSocket, listening
from tests.support.ports import own_block
from tests.support.processes import PROJECT_ROOT
from tests.support.waiting import wait_until


class EmbeddedStack:
    def __init__(self, config: StackConfig, environment: Mapping[str, str]) -> None:
        self.config = config
        self.secrets = load_or_create_secrets(self.config.state / "secrets.json")
        self.environment = environment
        self.database_url = database_url(self.config, self.secrets, "make_us_rich")
        self._airflow: Airflow | None = None
        self._closed = Event()
        self._threads: list[Thread] = []

    @property
    def airflow(self) -> Airflow:
        if self._airflow is None:
            self._airflow = Airflow(self.config.url("airflow"), ADMIN, self.secrets.admin_password)
        return self._airflow

    def stop_ending_scheduled_runs(self) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        self.stop_ending_scheduled_runs()
        if self._airflow is not None:
            self._airflow.__exit__(None, None, None)

    def api(self, token: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.config.url("api"), headers=headers, timeout=30)

    def accounts(self) -> Accounts:
        return Accounts(Database(self.database_url))

    def registry(self) -> Registry:
        return Registry(Settings(mlflow_url=self.config.url("mlflow"), mlflow_password=self.secrets.mlflow_password))

    def bucket(self) -> ObjectStore:
        keys = self.secrets.s3_access_key, self.secrets.s3_secret_key
        return ObjectStore(self.config.url("s3"), *keys, Settings().candles_bucket)

    def mkrich(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "mkrich"), *arguments]
        return subprocess.run(
            command, env=dict(self.environment), cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
        )

    def did(self, *arguments: str) -> str:
        """Run `mkrich` with these arguments, which must succeed; returns its output without line breaks."""
        done = self.mkrich(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join(done.stdout.split())

    def running_programs(self) -> set[str]:
        """Return the programs that run, by `mkrich status`, which exits with 1 while some do not."""
        programs = json.loads(self.mkrich("status", "--json").stdout)
        return {program["name"] for program in programs if program["state"] == "RUNNING"}

    def shell(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands as a reader of the documentation would, one after the other."""
        environment = dict(self.environment)
        return subprocess.run(
            ["bash", "-c", commands], env=environment, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
        )

    def jobs(self) -> list[dict[str, Any]]:
        """Return every Ray job that the cluster knows."""
        return [job for job in self._ray_jobs("") if job.get("submission_id")]

    def job_log(self, submission_id: str) -> str:
        log: str = self._ray_jobs(f"{submission_id}/logs")["logs"]
        return log

    def _ray_jobs(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.secrets.ray_token}"}
        url = f"{self.config.url('ray_dashboard')}/api/jobs/{path}"
        return httpx.get(url, headers=headers, timeout=30).raise_for_status().json()

    def discord_embeds_of(self, run_id: str) -> list[dict[str, Any]]:
        """Return what was posted to Discord about a run, oldest first."""
        messages = httpx.get(f"{self.config.url('discord')}/_control/messages", timeout=10).json()
        embeds = [embed for message in messages for embed in message["embeds"]]
        return [embed for embed in embeds if run_id in str(embed["fields"])]

    def unpause_without_schedule(self, dag_id: str) -> None:
        """Unpause a DAG and end every run that its schedule starts, so that only runs of the tests remain."""
        wait_until(lambda: self.airflow.has_dag(dag_id), 90, "the DAG is not known")
        self.airflow.unpause(dag_id)
        wait_until(lambda: self._end_active_scheduled(dag_id), 120, "the run of the last interval does not start")
        self._threads.append(Thread(target=self._end_scheduled_runs, args=(dag_id,)))
        self._threads[-1].start()

    def _end_scheduled_runs(self, dag_id: str) -> None:
        while not self._closed.wait(5):
            with suppress(AirflowError):  # a test may have killed the API server
                self._end_active_scheduled(dag_id)

    def _end_active_scheduled(self, dag_id: str) -> list[str]:
        runs = [run_id for run_id in self.airflow.active_runs(dag_id) if run_id.startswith("scheduled")]
        for run_id in runs:
            end_run(self.airflow, dag_id, run_id)
        return runs

    def kill(self, program: str) -> None:
        kill_program(self.config, program)

    def kill_processes(self, words: str) -> int:
        """Kill this stack's processes whose command line contains these words; returns how many there were."""
        found = self.processes(words)
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        return len(found)

    def processes(self, words: str) -> list[psutil.Process]:
        """Return this stack's processes whose command line contains these words."""
        found = []
        for process in Supervisor(self.config).processes():
            with suppress(psutil.Error, OSError):
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def listening(self) -> set[ListeningSocket]:
        """Return the sockets on which this stack's processes listen."""
        return listening(Supervisor(self.config).processes())

    def wait_for_run(self, dag_id: str, run_id: str, timeout_s: float) -> str:
        """Wait for the end of a run; returns its state."""
        state: str = wait_until(
            lambda: (now := self.airflow.run_state(dag_id, run_id)) in ENDED and now,
            timeout_s,
            f"{run_id} does not end",
        )
        return state

    def states(self, dag_id: str, run_id: str) -> dict[tuple[str, str], str]:
        """Return the state of each task by its id and mapped label."""
        return {(task.task_id, task.label): task.state for task in self.airflow.task_states(dag_id, run_id)}


def kill_program(config: StackConfig, name: str) -> None:
    """Kill a program of supervisord and its children with SIGKILL; supervisord starts it again."""
    (state,) = [state for state in lifecycle.status(config) if state.name == name]
    os.killpg(state.pid, signal.SIGKILL)


@contextmanager
def embedded_stack(
    market: Market,
    settings: Mapping[str, str],
    data: Path | None = None,
    start: Callable[[EmbeddedStack], None] | None = None,
) -> Iterator[EmbeddedStack]:
    """Run a stack on ports of this test process until the block ends, and assert that no process is left.

    data: a folder of recorded klines. start: starts the stack instead of `mkrich up`.
    """
    port_base = own_block().stack_base
    with traversable_folder() as home:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("MUR_")},
            "MUR_STACK_HOME": str(home),
            "MUR_PORT_BASE": str(port_base),
            "MUR_DAGS_PAUSED": "true",
            **settings,
        }
        stack = EmbeddedStack(StackConfig(market, home / market, port_base, data), environment)
        try:
            if start is None:
                stack.did("up", *(["--data", str(data)] if data else []))
            else:
                start(stack)
            yield stack
        finally:
            stack.close()
            ended = stack.mkrich("down")
            if os.environ.get("MUR_KEEP_LOGS"):
                shutil.copytree(stack.config.logs, Path(os.environ["MUR_KEEP_LOGS"]), dirs_exist_ok=True)
            shutil.rmtree(stack.config.runtime, ignore_errors=True)
        assert ended.returncode == 0, ended.stderr
        left = [process.pid for process in psutil.process_iter() if _belongs_to(process, home)]
        assert left == [], "processes are left"


def _belongs_to(process: psutil.Process, home: Path) -> bool:
    try:
        return str(home) in " ".join([*process.cmdline(), *process.environ().values()])
    except (psutil.Error, OSError):
        return False
