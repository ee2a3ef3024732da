"""Delete data older than its retention. Each function returns what it deleted, or in a dry run would delete."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from make_us_rich.core.interval import TRAINING_CANDLES, Interval
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import to_ms
from make_us_rich.database.pool import Database
from make_us_rich.registry.client import TRAINING_EXPERIMENT, connect_mlflow

if TYPE_CHECKING:  # minio would slow down the parsing of every DAG
    from make_us_rich.market.object_store import ObjectStore

_MONTH = re.compile(r"/(\d{4})-(\d{2})\.parquet$")
_PAGE = 1000  # MLflow's largest page
# The tables that grow without limit, and what is true of a row that was written before a time. The newest event stays:
# by its id a reader tells whether anything that it has not read was deleted.
_IS_OLD = {
    "forecasts": "made_at < %s",
    "forecast_logs": "day < %s",
    "scores": "day < %s",
    "audit_log": "at < %s",
    "alerts": "at < %s",
    "events": "at < %s AND event_id < (SELECT max(event_id) FROM events)",
}
_AIRFLOW_LOGS = ("dag_id=*/run_id=*", "dag_processor/[0-9]*", "scheduler/[0-9]*")  # not the link `latest`
_BATCH = 10_000
_TIMEOUT_S = 30.0  # of a statement on many rows, which nobody waits for


def delete_candles(store: ObjectStore, before: datetime, *, dry_run: bool) -> list[str]:
    """Delete the monthly candle objects whose month ended before `before`, but none that a training still reads."""
    ended = {key: _month_ended(key) for key in store.list_keys("candles/")}
    # in this order, because only the key of a candle object has an interval
    keys = [key for key, when in ended.items() if when <= before and when <= _first_read(key)]
    return _delete(keys, store.remove, dry_run)


def delete_job_results(store: ObjectStore, before: datetime, *, dry_run: bool) -> list[str]:
    """Delete the results of training jobs that were written before `before`."""
    written = store.list_modified("jobs/")
    return _delete([key for key, when in written.items() if when < before], store.remove, dry_run)


def delete_model_versions(settings: Settings, keep: int, *, dry_run: bool) -> list[str]:
    """Delete all but the newest `keep` versions of each registered model, and never one that has an alias.

    Deletes the version before its artifacts, so that no registered version ever points at a missing file.
    """
    import mlflow

    client: Any = connect_mlflow(settings)
    deleted = []
    for name in [model.name for model in mlflow.search_registered_models()]:
        versions: list[Any] = mlflow.search_model_versions(filter_string=f"name = '{name}'")
        for version in sorted(versions, key=lambda item: -int(item.version))[keep:]:
            with _skip_what_is_gone(f"{name} version {version.version}"):
                if _has_alias(client, name, version.version):
                    continue
                if not dry_run:
                    client.delete_model_version(name, version.version)
                    _delete_artifacts(client, version.run_id, version.model_id)
                deleted.append(f"{name} version {version.version}")
    return deleted


def delete_orphaned_runs(settings: Settings, before: datetime, *, dry_run: bool) -> list[str]:
    """Delete training runs that began before `before` and have no version, with their artifacts.

    Such a run was interrupted, or its version was deleted.
    """
    client: Any = connect_mlflow(settings)
    experiment = client.get_experiment_by_name(TRAINING_EXPERIMENT)
    orphans = []
    for run in _runs(client, experiment.experiment_id, before) if experiment else []:
        run_id = run.run_id
        if client.search_model_versions(f"run_id = '{run_id}'", max_results=1):
            continue
        with _skip_what_is_gone(f"run {run_id}"):
            if not dry_run:
                _delete_artifacts(client, run_id, None)
            orphans.append(f"run {run.run_name} ({run_id})")
    return orphans


def delete_rows(database: Database, table: str, before: datetime, *, dry_run: bool, batch: int = _BATCH) -> int:
    """Delete the rows of one of these tables written before `before`; return how many they are.

    Each batch is a transaction of its own, so that no long lock or statement delays serving.
    """
    is_old = _IS_OLD[table]
    if dry_run:
        with database.transaction(timeout_s=_TIMEOUT_S) as cursor:
            cursor.execute(f"SELECT count(*) FROM {table} WHERE {is_old}", (before,))
            return int(cursor.fetchone()[0])
    chosen = f"ARRAY(SELECT ctid FROM {table} WHERE {is_old} LIMIT %s)"
    deleted, last = 0, batch
    while last == batch:
        with database.transaction(timeout_s=_TIMEOUT_S) as cursor:
            cursor.execute(f"DELETE FROM {table} WHERE ctid = ANY({chosen})", (before, batch))
            last = cursor.rowcount
        deleted += last
    return deleted


def delete_task_logs(folder: Path, before: datetime, *, dry_run: bool) -> list[str]:
    """Delete Airflow's logs of DAG runs, and its daily ones of parsing, whose newest file is older than `before`."""
    found = [log for pattern in _AIRFLOW_LOGS for log in folder.glob(pattern) if _last_written(log) < before]
    return _delete([str(log) for log in found], _remove_tree, dry_run)


def _remove_tree(folder: str) -> None:
    """Remove a folder. What another program removes at the same time is no fault."""
    shutil.rmtree(folder, onerror=_raise_unless_gone)


def _raise_unless_gone(function: object, path: object, failure: tuple[object, BaseException, object]) -> None:
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]


def _delete(names: Iterable[str], remove: Callable[[str], object], dry_run: bool) -> list[str]:
    found = sorted(names)
    if not dry_run:
        for name in found:
            remove(name)
    return found


def _first_read(key: str) -> datetime:
    """Return when the first candle opened that a training of this interval still reads.

    `key`: candles/MARKET/INTERVAL/PAIR/MONTH.parquet
    """
    interval = Interval.parse(key.split("/")[2])
    return datetime.now(UTC) - timedelta(milliseconds=TRAINING_CANDLES.get(interval, 0) * interval.ms)


def _month_ended(key: str) -> datetime:
    found = _MONTH.search(key)
    if found is None:
        return datetime.max.replace(tzinfo=UTC)  # not a candle object: it is kept
    year, month = int(found[1]), int(found[2])
    return (datetime(year, month, 1, tzinfo=UTC) + timedelta(days=32)).replace(day=1)


def _last_written(run: Path) -> datetime:
    """Return when a file of the run was last written. Links are not followed: Airflow's point to what may be gone."""
    newest_s = 0.0
    for folder, _, names in os.walk(run):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            with suppress(FileNotFoundError):  # Airflow or another program removed it in the meantime
                newest_s = max(newest_s, path.lstat().st_mtime)
    return datetime.fromtimestamp(newest_s, UTC)


def _runs(client: Any, experiment_id: str, before: datetime) -> list[Any]:
    """Return the description of each run, without its metrics, which would need much memory.

    All pages are read before a run is deleted, because a deletion moves what the next pages hold.
    """
    query = f"attributes.start_time < {to_ms(before)}"
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], query, max_results=_PAGE, page_token=token)
        found += [run.info for run in page]
        token = page.token
        if not token:
            return found


@contextmanager
def _skip_what_is_gone(name: str) -> Iterator[None]:
    """End the block when a person or another program removed from MLflow meanwhile what it deletes."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        print(f"{name} was removed meanwhile: {error.message}")


def _has_alias(client: Any, name: str, version: str) -> bool:
    """Tell whether an alias points at a version. Not cached: a rollback may have just moved one."""
    aliases = client.get_registered_model(name).aliases
    return str(version) in {str(held) for held in aliases.values()}


def _delete_artifacts(client: Any, run_id: str, model_id: str | None) -> None:
    """Delete the files of a run. Its record is only marked as deleted, until `mlflow gc` removes it."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uris = [client.get_run(run_id).info.artifact_uri]
    if model_id:
        uris.append(client.get_logged_model(model_id).artifact_location)
    for uri in uris:
        files: Any = get_artifact_repository(uri)
        files.delete_artifacts()
    client.delete_run(run_id)
