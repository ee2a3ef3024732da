"""Delete what is older than its retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import CronTriggerTimetable, Param, dag, get_current_context, task

from dags.support.tasks import DAG_DEFAULTS, report
from make_us_rich.core.settings import Settings, get_settings

DOC = """
### What is deleted

Each night: months of **candles** that no training looks back to; **model versions** beyond the newest
`keep_versions` of each model, with their files, but never one with an alias such as champion or previous; training
**runs** that were cut off; **job rows** and **task logs** of old runs; **rows** of the tables `forecasts`, `scores`
and `audit_log` that are older than `MUR_KEEP_FORECAST_DAYS`, `MUR_KEEP_SCORE_DAYS` and `MUR_KEEP_AUDIT_DAYS`.

It begins as a rehearsal: with `dry_run` each task's log lists what it would delete. Read one, then set
`MUR_HOUSEKEEPING_DRY_RUN=false`, or untick `dry_run` in the form for once.
"""

_DAYS = {"type": "integer", "minimum": 1}
_TABLES = {"forecasts": "keep_forecast_days", "scores": "keep_score_days", "audit_log": "keep_audit_days"}


def _retention(name: str) -> Param:
    """The form begins with the setting of the same name."""
    return Param(getattr(get_settings(), name), **_DAYS, description=str(Settings.model_fields[name].description))


@dag(
    schedule=CronTriggerTimetable("40 3 * * *", timezone="UTC"),
    **DAG_DEFAULTS
    | {
        "params": {
            "dry_run": Param(
                get_settings().housekeeping_dry_run, type="boolean", description="only list, delete nothing"
            ),
            "keep_candle_days": Param(800, **_DAYS, description="days of candles to keep"),
            "keep_versions": Param(168, type="integer", minimum=2, description="newest versions of each model to keep"),
            "keep_run_days": Param(30, **_DAYS, description="days of job rows, unused MLflow runs and logs"),
            "keep_forecast_days": _retention("keep_forecast_days"),
            "keep_score_days": _retention("keep_score_days"),
            "keep_audit_days": _retention("keep_audit_days"),
        }
    },
    doc_md=DOC,
    tags=["maintenance", "daily"],
)
def housekeeping() -> None:
    [candles(), job_rows(), mlflow_runs() << model_versions(), logs(), rows()] >> report(None)


@task
def candles() -> int:
    """Old months of candles in S3."""
    from make_us_rich.market.object_store import ObjectStore
    from make_us_rich.operations import housekeeping as keeper

    return _told(
        keeper.old_candles(ObjectStore.from_settings(get_settings()), _before("keep_candle_days"), dry_run=_dry_run())
    )


@task
def job_rows() -> int:
    """Old results of training jobs in S3."""
    from make_us_rich.market.object_store import ObjectStore
    from make_us_rich.operations import housekeeping as keeper

    bucket = ObjectStore.from_settings(get_settings())
    return _told(keeper.old_job_rows(bucket, _before("keep_run_days"), dry_run=_dry_run()))


@task
def model_versions() -> int:
    """Old versions that no alias points at, and their files."""
    from make_us_rich.operations import housekeeping as keeper

    keep = _params()["keep_versions"]
    return _told(keeper.old_versions(get_settings(), keep, dry_run=_dry_run()))


@task
def mlflow_runs() -> int:
    """Old training runs without a version."""
    from make_us_rich.operations import housekeeping as keeper

    before = _before("keep_run_days")
    return _told(keeper.orphaned_runs(get_settings(), before, dry_run=_dry_run()))


@task
def logs() -> int:
    """Old task logs on this worker."""
    from airflow.sdk.configuration import conf

    from make_us_rich.operations import housekeeping as keeper

    folder = Path(conf.get("logging", "base_log_folder"))
    return _told(keeper.old_logs(folder, _before("keep_run_days"), dry_run=_dry_run()))


@task
def rows() -> dict[str, int]:
    """Old rows of the database: forecasts, scores, audit log."""
    from make_us_rich.operations import housekeeping as keeper

    url, dry_run = get_settings().database_url.get_secret_value(), _dry_run()
    counts = {table: keeper.old_rows(url, table, _before(name), dry_run=dry_run) for table, name in _TABLES.items()}
    for table, count in counts.items():
        print(f"{table}: {count} rows {'to delete' if dry_run else 'deleted'}")
    return counts


def _told(names: list[str]) -> int:
    print(f"{len(names)} {'to delete' if _dry_run() else 'deleted'}", *names, sep="\n  ")
    return len(names)


def _before(name: str) -> datetime:
    return datetime.now(UTC) - timedelta(days=_params()[name])


def _dry_run() -> bool:
    return bool(_params()["dry_run"])


def _params() -> dict[str, Any]:
    params: dict[str, Any] = get_current_context()["params"]
    return params


housekeeping()
