"""Every DAG is imported as Airflow's DAG processor does it, under placeholder settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
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
import json, os, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.models.taskinstance import TaskInstance
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import TimeRestriction
from make_us_rich.core.settings import get_settings
def period_s(dag):
    timetable = coerce_to_core_timetable(dag.timetable)
    restriction = TimeRestriction(dag.start_date, None, True)
    first = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    second = timetable.next_dagrun_info(last_automated_data_interval=first.data_interval, restriction=restriction)
    return (second.run_after - first.run_after).total_seconds()

def load(settings):
    os.environ.update(settings)
    get_settings.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "dags"]:  # they hold the settings
        del sys.modules[name]
    bag = DagBag(sys.argv[1])
    return {
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
    }

print("RESULT" + json.dumps([load(settings) for settings in json.load(sys.stdin)]))
"""

_IGNORED = {*(PROJECT_ROOT / "dags" / ".airflowignore").read_text().split(), "__init__.py"}
_FILES = sorted(path.stem for path in Path(PROJECT_ROOT / "dags").glob("*.py") if path.name not in _IGNORED)


_NO_DATABASE = "postgresql://nobody:nothing@127.0.0.1:9/none"
_SETTINGS = {
    "one interval": {"MUR_INTERVALS": "1h", "MUR_DATABASE_URL": _NO_DATABASE},
    "four intervals": {"MUR_INTERVALS": "15m,1h,4h,1d", "MUR_DATABASE_URL": _NO_DATABASE},
    "another interval": {"MUR_INTERVALS": "4h", "MUR_DATABASE_URL": _NO_DATABASE},
}


@pytest.fixture(scope="module")
def loaded() -> dict[str, dict[str, Any]]:
    """The DAGs under each of the settings, and with a table of pairs. One process: Airflow takes long to start."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MUR_")},
        "AIRFLOW_HOME": "/nonexistent-airflow-home",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nonexistent.db",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    command = [sys.executable, "-c", _LOAD, str(PROJECT_ROOT / "dags")]
    with migrated_database() as url:
        with Database(url) as database:
            for pair in ("sol_usdt", "doge_usdt"):
                pairs_table.put(database, Pair.parse(pair), plan="pooled")
            pairs_table.park(database, Pair("doge", "usdt"), "halted")
        settings = _SETTINGS | {"table of pairs": {"MUR_INTERVALS": "1h", "MUR_DATABASE_URL": url}}
        done = subprocess.run(
            command,
            env=environment,
            input=json.dumps(list(settings.values())),
            capture_output=True,
            text=True,
            check=False,
        )
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert results, done.stderr[-3000:]
    return dict(zip(settings, json.loads(results[0].removeprefix("RESULT")), strict=True))


@pytest.fixture(scope="module")
def hourly(loaded: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a new installation loads, before the first migration of its database."""
    return loaded["one interval"]


def test_no_dag_fails_to_import(loaded: dict[str, dict[str, Any]]) -> None:
    assert [each["errors"] for each in loaded.values()] == [{}] * len(loaded)


def test_a_new_installation_trains_and_scores_at_once(hourly: dict[str, Any]) -> None:
    """The first run is for the newest interval that has ended, so the foundation does not wait for Monday."""
    due = {name: of["first_due"] for name, of in hourly["dags"].items()}
    for name in ("train_pairs", "train_foundation", "score_forecasts"):
        assert due[name] <= time.time(), name


def test_each_interval_has_its_own_dags_as_often_as_its_candles_close(loaded: dict[str, dict[str, Any]]) -> None:
    dags = loaded["four intervals"]["dags"]
    for work in ("train_pairs", "train_foundation", "score_forecasts"):
        assert {name for name in dags if name.startswith(work)} == {
            work,
            *(f"{work}_{of}" for of in ("15m", "4h", "1d")),
        }
    period_s = {name: dag["period_s"] for name, dag in dags.items() if name.startswith("train_pairs")}
    assert period_s == {
        "train_pairs_15m": 900, "train_pairs": 3600, "train_pairs_4h": 14_400, "train_pairs_1d": 86_400
    }  # fmt: skip
    assert "train_pairs" not in loaded["another interval"]["dags"]


def test_parsing_imports_nothing_heavy(loaded: dict[str, dict[str, Any]]) -> None:
    assert [each["heavy"] for each in loaded.values()] == [[]] * len(loaded)


def test_every_dag_file_defines_a_dag(hourly: dict[str, Any]) -> None:
    assert sorted(hourly["dags"]) == _FILES


@pytest.mark.parametrize("dag_id", _FILES)
def test_a_dag_explains_itself(hourly: dict[str, Any], dag_id: str) -> None:
    dag = hourly["dags"][dag_id]

    assert dag["doc"]
    assert dag["tags"]
    assert "airflow" not in dag["owners"]


def test_the_label_of_a_job_of_many_pairs_fits_airflows_column(hourly: dict[str, Any]) -> None:
    label = hourly["dags"]["train_pairs"]["labels"]["train"]
    pairs = [f"{number:020}_usdt" for number in range(500)]

    shown = Template(label).render(task=SimpleNamespace(metadata={"pairs": ", ".join(pairs)}))
    assert shown.startswith(pairs[0])
    assert len(shown) <= hourly["longest_label"]


def test_train_pairs_has_the_steps_of_the_chain(hourly: dict[str, Any]) -> None:
    """No more than these, because each task costs Airflow a second or two before it does anything."""
    steps = {"plan_run", "fetch", "batch", "train", "collect", "promote", "refresh_serving", "report"}

    assert set(hourly["dags"]["train_pairs"]["tasks"]) == steps


def test_the_trigger_form_offers_the_active_pairs_of_the_table(
    loaded: dict[str, dict[str, Any]], hourly: dict[str, Any]
) -> None:
    dags = loaded["table of pairs"]["dags"]
    offered = dags["train_pairs"]["pairs"]
    assert offered["examples"] == dags["train_foundation"]["pairs"]["examples"] == ["sol_usdt"]
    assert "Override parameters on existing runs" in offered["description_md"]  # without it Airflow ignores the form
    assert hourly["dags"]["train_pairs"]["pairs"]["examples"]  # the pairs of the settings while Postgres is away
