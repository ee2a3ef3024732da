"""Delete what is older than its retention, each night."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import CronTriggerTimetable, Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.support.alerts import report
from dags.support.retries import DAG_DEFAULTS
from dags.support.run_scope import refuse_unknown_parameters
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.database.pool import Database
from make_us_rich.documents import Document
from make_us_rich.operations import backup_lock
from make_us_rich.operations.backup_lock import BackupRunning
from make_us_rich.operations.housekeeping import (
    delete_candles,
    delete_job_results,
    delete_model_versions,
    delete_orphaned_runs,
    delete_rows,
    delete_task_logs,
)

DOC = """
### What is deleted

Each night: months of **candles** older than any training needs; **model versions** beyond the newest `keep_versions`
of each model, with their files, but never one with an alias such as champion or previous; training **runs** without a
version; **job results**, **task logs** of old runs and old logs of parsing; **rows** of the tables `forecasts` and
`forecast_logs`, of `scores`, and of `audit_log` and `alerts` older than `MUR_KEEP_FORECAST_DAYS`,
`MUR_KEEP_SCORE_DAYS` and `MUR_KEEP_AUDIT_DAYS`, and of `events` older than `keep_event_days`.

A new installation deletes old logs each night, and only rehearses the rest: with `dry_run` each task's log lists what
it would delete. Read one, then set `MUR_HOUSEKEEPING_DRY_RUN=false`, or untick `dry_run` in the form for one run. A run
that a person starts with `dry_run` deletes nothing.
"""


class Retention(Document):
    """The parameters of a run, by the names of its form."""

    dry_run: bool
    keep_candle_days: int
    keep_versions: int
    keep_run_days: int
    keep_forecast_days: int
    keep_score_days: int
    keep_audit_days: int
    keep_event_days: int


def _days(default: int, description: str) -> Param:
    return Param(default, type="integer", minimum=1, description=description)


def _days_of_setting(name: str) -> Param:
    """Return a field of the form whose default is the setting of the same name."""
    return _days(getattr(get_settings(), name), str(Settings.model_fields[name].description))


@dag(
    schedule=CronTriggerTimetable("40 3 * * *", timezone="UTC"),
    **DAG_DEFAULTS
    | {
        "params": {
            "dry_run": Param(
                get_settings().housekeeping_dry_run,
                type="boolean",
                description="only list, delete nothing; scheduled runs delete old logs",
            ),
            "keep_candle_days": _days(800, "days of candles to keep"),
            "keep_versions": Param(168, type="integer", minimum=2, description="newest versions of each model to keep"),
            "keep_run_days": _days(30, "days of job results, unused MLflow runs and logs to keep"),
            "keep_forecast_days": _days_of_setting("keep_forecast_days"),
            "keep_score_days": _days_of_setting("keep_score_days"),
            "keep_audit_days": _days_of_setting("keep_audit_days"),
            "keep_event_days": _days(7, "days for which a reader of the event stream can resume it"),
        }
    },
    doc_md=DOC,
    tags=["maintenance", "daily"],
)
def housekeeping() -> None:
    [candles(), job_results(), mlflow_runs() << model_versions(), logs(), rows()] >> report(None)


@task
def candles() -> int:
    """Delete old months of candles in S3."""
    from make_us_rich.market.object_store import ObjectStore

    keep, store = _retention(), ObjectStore.from_settings(get_settings())
    return _log(delete_candles(store, _days_ago(keep.keep_candle_days), dry_run=keep.dry_run), keep.dry_run)


@task
def job_results() -> int:
    """Delete old results of training jobs in S3."""
    from make_us_rich.market.object_store import ObjectStore

    keep, store = _retention(), ObjectStore.from_settings(get_settings())
    return _log(delete_job_results(store, _days_ago(keep.keep_run_days), dry_run=keep.dry_run), keep.dry_run)


@task
def model_versions() -> int:
    """Delete old model versions that have no alias, and their files."""
    keep = _retention()
    with _no_backup():
        return _log(delete_model_versions(get_settings(), keep.keep_versions, dry_run=keep.dry_run), keep.dry_run)


@task
def mlflow_runs() -> int:
    """Delete old training runs without a version."""
    keep = _retention()
    before = _days_ago(keep.keep_run_days)
    with _no_backup():
        return _log(delete_orphaned_runs(get_settings(), before, dry_run=keep.dry_run), keep.dry_run)


@task
def logs() -> int:
    """Delete old logs of tasks and of parsing on this worker: in a scheduled run even if the rest is only listed."""
    from airflow.sdk.configuration import conf

    keep = _retention()
    folder = Path(conf.get("logging", "base_log_folder"))
    dry_run = keep.dry_run and get_current_context()["dag_run"].run_type != "scheduled"
    return _log(delete_task_logs(folder, _days_ago(keep.keep_run_days), dry_run=dry_run), dry_run)


@task
def rows() -> dict[str, int]:
    """Delete old rows of the database: forecasts, their published logs, scores, audit log, alerts, events."""
    keep = _retention()
    days = {"forecasts": keep.keep_forecast_days, "forecast_logs": keep.keep_forecast_days}
    days |= {"scores": keep.keep_score_days, "audit_log": keep.keep_audit_days, "alerts": keep.keep_audit_days}
    days |= {"events": keep.keep_event_days}
    with Database.from_settings(get_settings()) as database:
        counts = {
            table: delete_rows(database, table, _days_ago(age), dry_run=keep.dry_run) for table, age in days.items()
        }
    for table, count in counts.items():
        print(f"{table}: {count} rows {'to delete' if keep.dry_run else 'deleted'}")
    return counts


@contextmanager
def _no_backup() -> Iterator[None]:
    """Skip the task while a backup is being saved; a backup waits for the end of this block."""
    try:
        with Database.from_settings(get_settings()) as database, backup_lock.deletion(database):
            yield
    except BackupRunning as error:
        raise AirflowSkipException(str(error)) from None


def _log(names: list[str], dry_run: bool) -> int:
    """Write the deleted names into the task's log; return how many they are."""
    print(f"{len(names)} {'to delete' if dry_run else 'deleted'}", *names, sep="\n  ")
    return len(names)


def _days_ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def _retention() -> Retention:
    """Return the run's parameters. Raises RunRefused when it was given one of another name."""
    context = get_current_context()
    refuse_unknown_parameters(context)
    return Retention.model_validate(dict(context["params"]))


housekeeping()
