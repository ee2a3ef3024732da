"""Publish the log of the live forecasts of each day, after midnight."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import CronTriggerTimetable, dag, get_current_context, task

from dags.support.alerts import report
from dags.support.retries import DAG_DEFAULTS
from dags.support.run_scope import refuse_unknown_parameters
from make_us_rich.core.settings import get_settings
from make_us_rich.database.pool import Database

DOC = """
### What is published

Each night, for every UTC day that is over and not published yet: the live forecasts that were recorded on that day, as
CSV and parquet, in the table `forecast_logs`. The dashboard shows them to everyone below `/track-record/log/`, with
their SHA-256. The hash of a day includes that of the day before, so that whoever kept one notices if an earlier day is
replaced. A published day is never changed.
"""


@dag(
    schedule=CronTriggerTimetable("10 0 * * *", timezone="UTC"),
    **DAG_DEFAULTS,
    doc_md=DOC,
    tags=["forecasting", "daily", "quality"],
)
def publish_log() -> None:
    publish() >> report(None)


@task
def publish() -> int:
    """Publish the days that are missing; returns how many."""
    from make_us_rich.record import forecast_log

    refuse_unknown_parameters(get_current_context())
    settings = get_settings()
    with Database.from_settings(settings) as database:
        found = forecast_log.publish(database, settings.market, datetime.now(UTC).date())
    for day in found:
        print(f"{day.day}: {day.forecasts} forecasts, {day.chain}")
    return len(found)


publish_log()
