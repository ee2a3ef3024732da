"""Runs whole DAGs in one process with Airflow's dag.test(), which applies retries and trigger rules, on SQLite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from make_us_rich.core.settings import Settings
from tests.support.hosts import Host
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import prepared_copy

_RUN = """
import json, sys
from datetime import datetime
from airflow.dag_processing.dagbag import DagBag

for conf in json.loads(sys.argv[3]):
    dag = DagBag(sys.argv[1]).dags[sys.argv[2]]  # a run leaves its parameters in it
    dag.deadline = None  # a run that succeeds removes its deadline from the database, where dag.test() puts none
    run = dag.test(logical_date=None, run_conf=conf)
    tasks = [[ti.task_id, ti.rendered_map_index or "", ti.state, ti.try_number] for ti in run.get_task_instances()]
    print("RESULT" + json.dumps({"state": run.state, "tasks": tasks}), flush=True)
"""


@dataclass(frozen=True)
class Run:
    """The outcome of a DAG run: `states` and `tries` by task id and mapped label, which is a pair or empty."""

    state: str
    states: Mapping[tuple[str, str], str]
    tries: Mapping[tuple[str, str], int]
    log: str


class AirflowHome:
    """An Airflow home in `folder` with a migrated database. `settings` are the MUR_ variables of its runs.

    `host`: where they run, if not on this machine.
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

    def run(self, dag_id: str, conf: Mapping[str, Any]) -> Run:
        (run,) = self.runs(dag_id, [conf])
        return run

    def runs(self, dag_id: str, confs: Sequence[Mapping[str, Any]]) -> list[Run]:
        """Run a DAG once for each of these parameters, one after the other."""
        log = self._call("-c", _RUN, str(PROJECT_ROOT / "dags"), dag_id, json.dumps(confs))
        lines = [line for line in log.splitlines() if line.startswith("RESULT")]
        assert len(lines) == len(confs), log[-5000:]
        return [_run(json.loads(line.removeprefix("RESULT")), log) for line in lines]

    def _make_database(self, file: Path) -> None:
        self._call("-m", "airflow", "db", "migrate", AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{file}")

    def _call(self, *arguments: str, **variables: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            self._host.command(command) if self._host else command,
            env=self._environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=540,  # a training run beside another stack
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr


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
