"""Runs whole DAGs with Airflow's dag.test(), which applies retries and trigger rules, on SQLite.

Each Airflow home has one process for all its runs, whatever their settings, because Airflow takes seconds of CPU to
start and its tasks import much.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from select import select
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from make_us_rich.core.settings import Settings
from tests.support.hosts import Host
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import prepared_copy

_RUNS = """
import json, os, sys, time
results = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what tasks print goes into the log
from airflow.dag_processing.dagbag import DagBag
from make_us_rich.core.settings import get_settings

pause = time.sleep

def pause_unless_in_the_loop(seconds):
    # dag.test() waits for a second each time that it only skips tasks
    pause(0.01 if sys._getframe(1).f_globals["__name__"] == "airflow.sdk.definitions.dag" else seconds)

time.sleep = pause_unless_in_the_loop
folder, first_delay_s = sys.argv[1], float(sys.argv[2])
variables = dict(os.environ)

def read_settings(settings):
    os.environ.clear()
    os.environ.update(variables | settings)
    get_settings.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "dags"]:  # they hold the settings
        del sys.modules[name]
    from dags.support import retries
    retries._FIRST_DELAY_S = first_delay_s

for line in sys.stdin:
    file, dag_id, conf, settings = json.loads(line)
    read_settings(settings)
    dag = DagBag(f"{folder}/{file}").dags[dag_id]  # a run leaves its parameters in it
    dag.deadline = None  # a run that succeeds removes its deadline from the database, where dag.test() puts none
    run = dag.test(logical_date=None, run_conf=conf)
    tasks = [[ti.task_id, ti.rendered_map_index or "", ti.state, ti.try_number] for ti in run.get_task_instances()]
    print(json.dumps({"run_id": run.run_id, "state": run.state, "tasks": tasks}), file=results, flush=True)
"""
_DAGS = PROJECT_ROOT / "dags"
_FILES = [file.name for file in sorted(_DAGS.glob("[a-z]*.py"))]
_RUN_S = 540  # a training run beside another stack


@dataclass(frozen=True)
class Run:
    """The outcome of a DAG run: `states` and `tries` by task id and mapped label, which is a pair or empty."""

    run_id: str
    state: str
    states: Mapping[tuple[str, str], str]
    tries: Mapping[tuple[str, str], int]
    log: str


class AirflowHome:
    """An Airflow home in `folder` with a migrated database. `settings` are the MUR_ variables of its runs.

    `host`: where they run, if not on this machine. `first_delay_s`: how long a failed task waits for its first retry;
    tests/unit/test_retries.py shows the delays. Use it as a context manager, which ends its process.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, str], host: Host | None = None, *, first_delay_s: float = 5
    ) -> None:
        self._host = host
        self._first_delay_s = first_delay_s
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("MUR_", "AIRFLOW"))},
            "PYTHONPATH": str(PROJECT_ROOT),
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(_DAGS),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([_bundle(file) for file in _FILES]),
            **settings,
            **(host.environment() if host else {}),
        }
        folder.mkdir(exist_ok=True)
        self._database = folder / "airflow.db"
        prepared_copy(self._database, f"airflow-{version('apache-airflow')}.db", self._make_database)
        self._log = folder / "runs.log"
        self._log.touch()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.kill()  # asked to end, it takes seconds on a busy machine
            self._process.communicate()  # which closes the pipe too

    def run(self, dag_id: str, conf: Mapping[str, Any], settings: Mapping[str, str] | None = None) -> Run:
        """Run a DAG with these parameters. `settings` are variables of this run that replace those of the home."""
        process = self._started()
        assert process.stdin is not None
        before = self._log.stat().st_size
        (file,) = [file for file in _FILES if re.fullmatch(rf"{file.removesuffix('.py')}(_\d+[mhd])?", dag_id)]
        process.stdin.write(json.dumps([file, dag_id, conf, dict(settings or {})]) + "\n")
        process.stdin.flush()

        assert process.stdout is not None
        ready, _, _ = select([process.stdout], [], [], _RUN_S)
        assert ready, f"{dag_id} does not end after {_RUN_S} s:\n{self._log_from(before)[-5000:]}"
        line = process.stdout.readline()
        assert line, self._log_from(before)[-5000:]
        return _run(json.loads(line), self._log_from(before))

    def forget_failures(self) -> None:
        """Forget which failures were posted to Discord, so that the next run posts its own and no recovery."""
        with closing(sqlite3.connect(self._database, timeout=60)) as database, database:
            database.execute("DELETE FROM variable WHERE key LIKE 'failing:%'")

    def _log_from(self, position: int) -> str:
        with self._log.open("rb") as log:
            log.seek(position)
            return log.read().decode(errors="replace")

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [sys.executable, "-c", _RUNS, str(_DAGS), str(self._first_delay_s)]
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._host.command(command) if self._host else command,
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
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


def _bundle(file: str) -> dict[str, Any]:
    """Return a bundle of one file: dag.test() parses the bundle of its DAG and writes it to the database each time."""
    path = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return {"name": file, "classpath": path, "kwargs": {"path": str(_DAGS / file)}}


def _run(result: dict[str, Any], log: str) -> Run:
    tasks = result["tasks"]
    return Run(
        run_id=result["run_id"],
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

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None, **changed: str) -> Run:
        """Run a DAG with these parameters. `changed` are variables of this run that replace those of `settings`."""
        return self.airflow.run(dag_id, conf or {}, {**self.settings, **changed})

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
