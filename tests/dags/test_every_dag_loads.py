"""Every DAG is imported as Airflow's DAG processor does it, under placeholder settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import Template

from make_us_rich.core.pair import Pair
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import migrated_database

_LOAD = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
from airflow.models.taskinstance import TaskInstance
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import TimeRestriction
def period_s(dag):
    timetable = coerce_to_core_timetable(dag.timetable)
    restriction = TimeRestriction(dag.start_date, None, True)
    first = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    second = timetable.next_dagrun_info(last_automated_data_interval=first.data_interval, restriction=restriction)
    return (second.run_after - first.run_after).total_seconds()

began = time.perf_counter()
bag = DagBag(sys.argv[1])
print("RESULT" + json.dumps({
    "errors": bag.import_errors,
    "dags": {dag.dag_id: {
        "period_s": period_s(dag),
        "tasks": sorted(task.task_id for task in dag.tasks),
        "pairs": dag.params.get_param("pairs").schema if "pairs" in dag.params else None,
        "doc": dag.doc_md or "", "tags": sorted(dag.tags),
        "owners": sorted({task.owner for task in dag.tasks}),
        "first_due": coerce_to_core_timetable(dag.timetable).next_dagrun_info(
            last_automated_data_interval=None,
            restriction=TimeRestriction(dag.start_date, None, dag.catchup),
        ).run_after.timestamp(),
        "labels": {task.task_id: task.map_index_template for task in dag.tasks if task.is_mapped},
    } for dag in bag.dags.values()},
    "longest_label": TaskInstance.__table__.c.rendered_map_index.type.length,
    "heavy": [name for name in ("torch", "onnxruntime", "mlflow", "pandas", "ray") if name in sys.modules],
}))
"""

_IGNORED = {*(PROJECT_ROOT / "dags" / ".airflowignore").read_text().split(), "__init__.py"}
_FILES = sorted(path.stem for path in Path(PROJECT_ROOT / "dags").glob("*.py") if path.name not in _IGNORED)


@cache
def _loaded(
    intervals: str = "1h", database_url: str = "postgresql://nobody:nothing@127.0.0.1:9/none"
) -> dict[str, Any]:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MUR_")},
        "MUR_INTERVALS": intervals,
        "MUR_DATABASE_URL": database_url,
        "AIRFLOW_HOME": "/nonexistent-airflow-home",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nonexistent.db",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    command = [sys.executable, "-c", _LOAD, str(PROJECT_ROOT / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert results, done.stderr[-3000:]
    loaded: dict[str, Any] = json.loads(results[0].removeprefix("RESULT"))
    return loaded


def test_no_dag_fails_to_import() -> None:
    assert _loaded()["errors"] == {}


def test_a_new_installation_trains_and_scores_at_once() -> None:
    """The first run is for the newest interval that has ended, so the foundation does not wait for Monday."""
    due = {name: of["first_due"] for name, of in _loaded()["dags"].items()}
    for name in ("train_pairs", "train_foundation", "score_forecasts"):
        assert due[name] <= time.time(), name


def test_each_interval_has_its_own_dags_as_often_as_its_candles_close() -> None:
    dags = _loaded("15m,1h,4h,1d")["dags"]
    for work in ("train_pairs", "train_foundation", "score_forecasts"):
        assert {name for name in dags if name.startswith(work)} == {
            work,
            *(f"{work}_{of}" for of in ("15m", "4h", "1d")),
        }
    period_s = {name: dag["period_s"] for name, dag in dags.items() if name.startswith("train_pairs")}
    assert period_s == {
        "train_pairs_15m": 900, "train_pairs": 3600, "train_pairs_4h": 14_400, "train_pairs_1d": 86_400
    }  # fmt: skip
    assert "train_pairs" not in _loaded("4h")["dags"]


def test_parsing_imports_nothing_heavy() -> None:
    assert _loaded()["heavy"] == []


def test_every_dag_file_defines_a_dag() -> None:
    assert sorted(_loaded()["dags"]) == _FILES


@pytest.mark.parametrize("dag_id", _FILES)
def test_a_dag_explains_itself(dag_id: str) -> None:
    dag = _loaded()["dags"][dag_id]

    assert dag["doc"]
    assert dag["tags"]
    assert "airflow" not in dag["owners"]


def test_the_label_of_a_job_of_many_pairs_fits_airflows_column() -> None:
    label = _loaded()["dags"]["train_pairs"]["labels"]["train"]
    pairs = [f"{number:020}_usdt" for number in range(500)]

    shown = Template(label).render(task=SimpleNamespace(metadata={"pairs": ", ".join(pairs)}))
    assert shown.startswith(pairs[0])
    assert len(shown) <= _loaded()["longest_label"]


def test_train_pairs_has_the_steps_of_the_chain() -> None:
    steps = {"plan_run", "fetch", "batch", "train", "collect", "promote"}

    assert steps <= set(_loaded()["dags"]["train_pairs"]["tasks"])


def test_the_trigger_form_offers_the_active_pairs_of_the_table() -> None:
    with migrated_database() as url:
        with Database(url) as database:
            for pair in ("sol_usdt", "doge_usdt"):
                pairs_table.put(database, Pair.parse(pair), plan="pooled")
            pairs_table.park(database, Pair("doge", "usdt"), "halted")
        dags = _loaded(database_url=url)["dags"]

    offered = dags["train_pairs"]["pairs"]
    assert offered["examples"] == dags["train_foundation"]["pairs"]["examples"] == ["sol_usdt"]
    assert "Override parameters on existing runs" in offered["description_md"]  # without it Airflow ignores the form
    assert _loaded()["dags"]["train_pairs"]["pairs"]["examples"]  # the pairs of the settings while Postgres is away
