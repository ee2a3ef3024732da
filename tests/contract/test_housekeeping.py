"""What housekeeping deletes and what it keeps, on a real S3, a real MLflow and a real Postgres."""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import onnx
import pytest
from mlflow import MlflowClient

from dags import housekeeping as housekeeping_dag
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from make_us_rich.documents import QUANTILE_NAMES
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.operations import housekeeping
from make_us_rich.registry.client import CHAMPION, PREVIOUS, Registry
from tests.support.accounts import transaction
from tests.support.registry import champion_of
from tests.support.servers import S3_KEYS, mlflow_database, mlflow_server, s3_server
from tests.support.tiny_model import tiny_model

NAME = "btc_usdt_1h"
FAR_AHEAD = datetime.now(UTC) + timedelta(days=1)
ETHER = Pair("eth", "usdt")
YEAR_2020 = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings() -> Iterator[Settings]:
    with mlflow_server() as url:
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment("train_pairs")
        yield Settings(mlflow_url=url)


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with s3_server() as url:
        made = ObjectStore(url, *S3_KEYS, "candles")
        made.ensure_bucket()
        yield made


def test_old_months_of_candles_are_deleted(store: ObjectStore) -> None:
    for month in (datetime(2019, 11, 1, tzinfo=UTC), datetime(2019, 12, 1, tzinfo=UTC), YEAR_2020):
        CandleStore(store).write("simulated", BITCOIN, Interval.H1, _one_candle(month))

    planned = housekeeping.delete_candles(store, YEAR_2020, dry_run=True)
    before = store.list_keys("candles/")
    deleted = housekeeping.delete_candles(store, YEAR_2020, dry_run=False)

    folder = "candles/simulated/1h/btc_usdt"
    assert planned == deleted == [f"{folder}/2019-11.parquet", f"{folder}/2019-12.parquet"]
    assert len(before) == 3, "the rehearsal deleted something"
    assert store.list_keys("candles/") == [f"{folder}/2020-01.parquet"]


def test_no_candle_is_deleted_that_a_training_still_reads(store: ObjectStore) -> None:
    two_years_ago = datetime.now(UTC) - timedelta(days=730)
    for interval in (Interval.H1, Interval.D1):
        CandleStore(store).write("simulated", ETHER, interval, _one_candle(two_years_ago))

    deleted = housekeeping.delete_candles(store, datetime.now(UTC), dry_run=False)

    month = f"{two_years_ago:%Y-%m}.parquet"
    assert f"candles/simulated/1h/eth_usdt/{month}" in deleted
    assert f"candles/simulated/1d/eth_usdt/{month}" not in deleted


def test_old_job_results_are_deleted(store: ObjectStore) -> None:
    store.put("jobs/some-job/btc_usdt.json", b"{}")

    assert housekeeping.delete_job_results(store, FAR_AHEAD - timedelta(days=30), dry_run=False) == []
    assert housekeeping.delete_job_results(store, FAR_AHEAD, dry_run=False) == ["jobs/some-job/btc_usdt.json"]
    assert store.list_keys("jobs/") == []


def test_old_versions_are_deleted_with_their_files_and_those_with_an_alias_are_kept(settings: Settings) -> None:
    runs = [_publish_with_mlflow() if number == 2 else _publish(settings) for number in range(6)]
    with Registry(settings) as registry:
        registry.set_alias(NAME, PREVIOUS, 1)
        registry.set_alias(NAME, CHAMPION, 2)
        planned = housekeeping.delete_model_versions(settings, 2, dry_run=True)
        assert len(registry.versions(NAME)) == 6, "the rehearsal deleted something"
        deleted = housekeeping.delete_model_versions(settings, 2, dry_run=False)

        assert planned == deleted == [f"{NAME} version 4", f"{NAME} version 3"]
        assert [version.version for version in registry.versions(NAME)] == [6, 5, 2, 1]
        assert registry.download(champion_of(registry, NAME))
    client = MlflowClient()
    for run_id in runs[2:4]:
        assert client.get_run(run_id).info.lifecycle_stage == "deleted"
        assert client.list_artifacts(run_id) == []
    assert client.get_run(runs[1]).info.lifecycle_stage == "active"
    assert [item.path for item in client.list_artifacts(runs[1])] == ["model", "weights.npz"]
    assert housekeeping.delete_model_versions(settings, 2, dry_run=False) == []


def test_a_run_without_a_version_is_deleted(settings: Settings) -> None:
    run = MlflowClient().create_run(mlflow.get_experiment_by_name("train_pairs").experiment_id)

    assert housekeeping.delete_orphaned_runs(settings, FAR_AHEAD - timedelta(days=2), dry_run=False) == []
    (orphan,) = housekeeping.delete_orphaned_runs(settings, FAR_AHEAD, dry_run=False)
    assert run.info.run_id in orphan
    assert housekeeping.delete_orphaned_runs(settings, FAR_AHEAD, dry_run=False) == []


def test_what_is_removed_meanwhile_stops_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person removes a version, a run and a whole model in MLflow while housekeeping looks at them."""
    client = MlflowClient()
    experiment = mlflow.get_experiment_by_name("train_pairs").experiment_id
    runs = [client.create_run(experiment).info for _ in range(5)]
    for name in ("ada_usdt_1h", NAME):
        client.create_registered_model(name)
        for run in runs[:4]:
            client.create_model_version(name, run.artifact_uri, run.run_id)
    has_alias = housekeeping._has_alias

    def interfere(asking: MlflowClient, name: str, version: str) -> bool:
        if name != NAME:
            _execute(settings, "DELETE FROM model_versions WHERE name = ?", name)
            _execute(settings, "DELETE FROM registered_models WHERE name = ?", name)
        elif version == "3":
            client.delete_model_version(name, version)
        return has_alias(asking, name, version)

    monkeypatch.setattr(housekeeping, "_has_alias", interfere)
    deleted = housekeeping.delete_model_versions(settings, 1, dry_run=False)
    assert deleted == [f"{NAME} version 2", f"{NAME} version 1"]

    search = housekeeping._runs

    def remove_one(asking: MlflowClient, experiment_id: str, before: datetime) -> list[Any]:
        found = search(asking, experiment_id, before)
        _execute(settings, "UPDATE experiments SET lifecycle_stage = 'deleted' WHERE experiment_id = ?", experiment_id)
        _execute(settings, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE experiment_id = ?", experiment_id)
        return found

    monkeypatch.setattr(housekeeping, "_runs", remove_one)
    housekeeping.delete_orphaned_runs(settings, FAR_AHEAD, dry_run=False)


def _execute(settings: Settings, statement: str, value: str) -> None:
    """Change MLflow's database directly, because its server lets nobody delete models and experiments."""
    with closing(sqlite3.connect(mlflow_database(settings.mlflow_url))) as database, database:
        database.execute(statement, (value,))


def test_models_on_every_page_are_considered() -> None:
    with mlflow_server() as url:
        client = MlflowClient(url)
        with closing(sqlite3.connect(mlflow_database(url))) as database, database:
            (columns,) = database.execute(
                "SELECT group_concat(name) FROM pragma_table_info('registered_models')"
            ).fetchone()
            client.create_registered_model("zzz_usdt_1h")  # the last by name, so on the second page
            row = database.execute(f"SELECT {columns} FROM registered_models").fetchone()
            places = ", ".join("?" * len(row))
            database.executemany(
                f"INSERT INTO registered_models ({columns}) VALUES ({places})",
                [
                    tuple(f"aaa{number:04}_usdt_1h" if value == "zzz_usdt_1h" else value for value in row)
                    for number in range(105)  # MLflow gives a hundred for each page
                ],
            )
        for _ in range(3):
            run = client.create_run("0")
            client.create_model_version("zzz_usdt_1h", run.info.artifact_uri, run.info.run_id)

        assert housekeeping.delete_model_versions(Settings(mlflow_url=url), 2, dry_run=True) == [
            "zzz_usdt_1h version 1"
        ]


def test_old_rows_of_the_database_are_deleted(database_url: str) -> None:
    for days in (399, 401):
        _row(database_url, "forecasts", days)
        _row(database_url, "scores", days)
        _row(database_url, "audit_log", days)
        _row(database_url, "alerts", days)
    before = datetime.now(UTC) - timedelta(days=400)

    for table in ("forecasts", "scores", "audit_log", "alerts"):
        assert housekeeping.delete_rows(Database(database_url), table, before, dry_run=True) == 1
        assert _count(database_url, table) == 2, "the rehearsal deleted something"
        assert housekeeping.delete_rows(Database(database_url), table, before, dry_run=False) == 1
        assert housekeeping.delete_rows(Database(database_url), table, before, dry_run=False) == 0
        assert _count(database_url, table) == 1


def test_many_old_rows_are_deleted_in_batches(database_url: str) -> None:
    with transaction(database_url) as cursor:
        cursor.execute(
            "INSERT INTO audit_log (at, actor, action, subject)"
            " SELECT '2020-01-01'::timestamptz, 'grace', 'log in', 'grace' FROM generate_series(1, 25)"
        )
    before = datetime(2021, 1, 1, tzinfo=UTC)

    assert housekeeping.delete_rows(Database(database_url), "audit_log", before, dry_run=False, batch=10) == 25


def test_logs_of_old_runs_are_deleted(tmp_path: Path) -> None:
    for name, days in (("old", 40), ("new", 1)):
        file = tmp_path / "dag_id=train_pairs" / f"run_id={name}" / "task_id=fetch" / "attempt=1.log"
        file.parent.mkdir(parents=True)
        file.write_text("a line")
        when = time.time() - days * 86_400
        for path in (file, *list(file.parents)[:2]):
            os.utime(path, (when, when))

    deleted = housekeeping.delete_task_logs(tmp_path, datetime.now(UTC) - timedelta(days=30), dry_run=False)

    assert [Path(name).name for name in deleted] == ["run_id=old"]
    assert [path.name for path in (tmp_path / "dag_id=train_pairs").iterdir()] == ["run_id=new"]


def test_old_logs_of_parsing_are_deleted_by_day(tmp_path: Path) -> None:
    for day, age_days in (("2026-10-01", 40), ("2026-11-25", 0)):
        file = tmp_path / "dag_processor" / day / "dags-folder" / "train_pairs.py.log"
        file.parent.mkdir(parents=True)
        file.touch()
        when = time.time() - age_days * 86_400
        for path in (file, *list(file.parents)[:2]):
            os.utime(path, (when, when))
    (tmp_path / "dag_processor" / "latest").symlink_to(tmp_path / "dag_processor" / "2026-11-25")

    housekeeping.delete_task_logs(tmp_path, datetime.now(UTC) - timedelta(days=30), dry_run=False)

    assert sorted(path.name for path in (tmp_path / "dag_processor").iterdir()) == ["2026-11-25", "latest"]


@pytest.mark.parametrize(
    ("run_type", "kept"), [("scheduled", ["run_id=new"]), ("manual", ["run_id=new", "run_id=old"])]
)
def test_the_nightly_run_deletes_old_logs_while_the_rest_is_a_rehearsal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_type: str, kept: list[str]
) -> None:
    """A run that a person starts with `dry_run` deletes nothing."""
    for name, days in (("old", 40), ("new", 1)):
        run = tmp_path / "dag_id=train_pairs" / f"run_id={name}"
        run.mkdir(parents=True)
        os.utime(run, (time.time() - days * 86_400,) * 2)
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    params = housekeeping_dag.housekeeping().params.dump()
    context = {
        "params": params,
        "dag": SimpleNamespace(params=params),
        "dag_run": SimpleNamespace(run_type=run_type, conf={}),
    }
    monkeypatch.setattr(housekeeping_dag, "get_current_context", lambda: context)

    housekeeping_dag.logs.function()

    assert params["dry_run"] is True
    assert sorted(path.name for path in (tmp_path / "dag_id=train_pairs").iterdir()) == kept


def test_a_log_that_vanishes_meanwhile_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow keeps links to the newest log, which stay when it is deleted; another program may delete a folder too."""
    when = time.time() - 40 * 86_400
    for name in ("first", "second"):
        run = tmp_path / "dag_id=train_pairs" / f"run_id={name}"
        run.mkdir(parents=True)
        (run / "latest").symlink_to(run / "gone.log")
        os.utime(run / "latest", (when, when), follow_symlinks=False)
        os.utime(run, (when, when))
    remove = housekeeping.shutil.rmtree

    def remove_twice(path: str, **options: Any) -> None:
        remove(path)
        remove(path, **options)

    monkeypatch.setattr(housekeeping.shutil, "rmtree", remove_twice)
    deleted = housekeeping.delete_task_logs(tmp_path, datetime.now(UTC) - timedelta(days=30), dry_run=False)

    assert [Path(name).name for name in deleted] == ["run_id=first", "run_id=second"]


def _row(url: str, table: str, days_old: int) -> None:
    when = datetime.now(UTC) - timedelta(days=days_old)
    when_ms = int(when.timestamp() * 1000)
    rows: dict[str, dict[str, object]] = {
        "forecasts": {"made_at": when, "target_open_ms": when_ms, "as_of_ms": when_ms, "model_version": 1}
        | {"last_close": 1.0, "horizon_quantiles": "{{1, 1, 1, 1, 1, 1, 1}}"}
        | dict.fromkeys(QUANTILE_NAMES, 1.0),
        "scores": {"day": when.date(), "as_of_ms": when_ms, "n": 168, "coverage_80": 0.8, "shift": "{}"}
        | {"skill_vs_naive": 0.1, "t_vs_naive": 1.0, "drifted": False, "reason": ""},
        "audit_log": {"at": when, "actor": "grace", "action": "park pair", "subject": "btc_usdt"},
        "alerts": {"at": when, "title": "train_pairs is late", "text": "It may hang."},
    }
    row = rows[table]
    if table in ("forecasts", "scores"):
        row |= {"market": "simulated", "pair": "btc_usdt", "interval": "1h"}
    with transaction(url) as cursor:
        names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
        cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", row)


def _count(url: str, table: str) -> int:
    with transaction(url) as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


def _one_candle(month: datetime) -> Candles:
    times = np.array([int(month.timestamp() * 1000) + HOUR_MS])
    return Candles(times, *(np.array([value]) for value in (1.0, 1.2, 0.9, 1.1, 5.0)))


def _publish(settings: Settings) -> str:
    """Register a version as the pipeline does; return its run id."""
    graph = tiny_model("btc_usdt")
    with Registry(settings) as registry:
        return registry.publish(
            NAME, NAME, graph=graph, weights=b"weights", params={}, metrics={}, tags={}, description=""
        ).run_id


def _publish_with_mlflow() -> str:
    """Register a version as MLflow's library does, whose graph is no file of the run; return its run id."""
    with warnings.catch_warnings(action="ignore"), mlflow.start_run() as run:  # MLflow's own, at first use
        mlflow.log_text("weights", "weights.npz")
        model = mlflow.onnx.log_model(
            onnx.load_from_string(tiny_model("btc_usdt")),
            name="model",
            pip_requirements=["onnxruntime"],
            save_as_external_data=False,
        )
    client = MlflowClient()
    if not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(NAME)
    client.create_model_version(NAME, model.model_uri, run.info.run_id, model_id=model.model_id)
    return str(run.info.run_id)
