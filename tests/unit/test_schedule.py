"""After an outage there is one hourly run, for the newest interval."""

from __future__ import annotations

import pendulum
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable

from dags.support.retries import DAG_DEFAULTS


def test_missed_hours_are_not_run_later() -> None:
    hour = pendulum.now("UTC").start_of("hour")
    before_the_outage = DataInterval(hour.subtract(hours=8), hour.subtract(hours=7))
    restriction = TimeRestriction(earliest=None, latest=None, catchup=DAG_DEFAULTS["catchup"])

    following = CronDataIntervalTimetable("0 * * * *", timezone="UTC").next_dagrun_info(
        last_automated_data_interval=before_the_outage, restriction=restriction
    )

    assert following is not None
    assert following.data_interval == DataInterval(hour.subtract(hours=1), hour)
