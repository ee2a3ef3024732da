"""Runs whole DAGs with Airflow's dag.test(), which applies retries and trigger rules, on SQLite.

Each Airflow home has one process for all its runs, because Airflow takes more than ten seconds of CPU to start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from make_us_rich.core.settings import Settings
from tests.support.hosts import Host
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import prepared_copy
from tests.support.waiting import wait_without_fault_until

_RUNS = """
import json, sys
from datetime import datetime
from airflow.dag_processing.dagbag import DagBag

for line in sys.stdin:
    dag_id, conf = json.loads(line)
    dag = DagBag(sys.argv[1]).dags[dag_id]  # a run leaves its parameters in it
    dag.deadline = None  # a run that succeeds removes its deadline from the database, where dag.test() puts none
    run = dag.test(logical_date=None, run_conf=conf)
    tasks = [[ti.task_id, ti.rendered_map_index or "", ti.state, ti.try_number] for ti in run.get_task_instances()]
    print("RESULT" + json.dumps({"state": run.state, "tasks": tasks}), flush=True)
"""
_RUN_S = 540  # a training run beside another stack


@dataclass(frozen=True)
class Run:
    """The outcome of a DAG run: `states` and `tries` by task id and mapped label, which is a pair or empty."""

    state: str
    states: Mapping[tuple[str, str], str]
    tries: Mapping[tuple[str, str], int]
    log: str


class AirflowHome:
    """An Airflow home in `folder` with a migrated database. `settings` are the MUR_ variables of its runs.

    `host`: where they run, if not on this machine. Use it as a context manager, which ends its process.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], host: Host | None = None) -> None:
        self._host = host
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("MUR_", "AIRFLOW"))},
            "PYTHONPATH": str(PROJECT_ROOT),
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
            **settings,
            **(host.environment() if host else {}),
        }
        folder.mkdir(exist_ok=True)
        prepared_copy(folder / "airflow.db", f"airflow-{version('apache-airflow')}.db", self._make_database)
        self._log = folder / "runs.log"
        self._log.touch()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):  # a busy machine may take long to end it
                self._process.wait(60)
            self._process.kill()
            self._process.wait()

    def run(self, dag_id: str, conf: Mapping[str, Any]) -> Run:
        """Run a DAG with these parameters."""
        process = self._started()
        assert process.stdin is not None
        before = self._log.stat().st_size
        process.stdin.write(json.dumps([dag_id, conf]) + "\n")
        process.stdin.flush()

        def result() -> dict[str, Any] | None:
            assert process.poll() is None, self._log_from(before)[-5000:]
            lines = [line for line in self._log_from(before).splitlines(keepends=True) if line.startswith("RESULT")]
            return json.loads(lines[0].removeprefix("RESULT")) if lines and lines[0].endswith("\n") else None

        found = wait_without_fault_until(result, _RUN_S, f"{dag_id} does not end")
        assert found is not None
        return _run(found, self._log_from(before))

    def _log_from(self, position: int) -> str:
        with self._log.open("rb") as log:
            log.seek(position)
            return log.read().decode(errors="replace")

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [sys.executable, "-c", _RUNS, str(PROJECT_ROOT / "dags")]
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._host.command(command) if self._host else command,
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
        return self._process

    def _make_database(self, file: Path) -> None:
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        variables = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{file}"}
        done = subprocess.run(
            self._host.command(command) if self._host else command,
            env=self._environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def _run(result: dict[str, Any], log: str) -> Run:
    tasks = result["tasks"]
    return Run(
        state=result["state"],
        states={(task, label): state for task, label, state, _ in tasks},
        tries={(task, label): tries for task, label, _, tries in tasks},
        log=log,
    )


@dataclass(frozen=True)
class DagEnvironment:
    """Airflow and the servers that a DAG run uses. `settings` are its MUR_ variables."""

    airflow: AirflowHome
    settings: Mapping[str, str]

    def typed_settings(self, **changed: str) -> Settings:
        values = {name.removeprefix("MUR_").lower(): value for name, value in self.settings.items()}
        return Settings(**values | changed)

    @property
    def database_url(self) -> str:
        return self.settings["MUR_DATABASE_URL"]

    def break_exchange(self, **fault: object) -> None:
        """Let the exchange fail; infra/exchange/faults.py describes the faults."""
        url = f"{self.settings['MUR_EXCHANGE_URL']}/_control/faults"
        httpx.post(url, json=fault).raise_for_status()

    def embeds(self) -> list[dict[str, Any]]:
        """Return every embed that was posted to Discord, oldest first."""
        address = urlsplit(self.settings["MUR_DISCORD_WEBHOOK_URL"])
        messages = httpx.get(f"{address.scheme}://{address.netloc}/_control/messages").json()
        return [embed for message in messages for embed in message["embeds"]]
