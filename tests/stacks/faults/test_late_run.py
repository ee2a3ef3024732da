"""A run that takes too long: Discord receives an alert, and ending the run stops its Ray job."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.embedded.environment import database_url
from tests.support.accounts import transaction
from tests.support.airflow_api import end_run
from tests.support.embedded_stack import EmbeddedStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

DAG = "train_pairs"


def test_a_late_run_is_reported_and_ending_it_stops_its_job(stack: EmbeddedStack) -> None:
    # an hour of no other test, because work that was done is not repeated
    as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000) - 30 * HOUR_MS
    as_of = datetime.fromtimestamp(as_of_ms / 1000, UTC)
    run_id = stack.airflow.trigger(DAG, {"as_of": as_of.isoformat()})
    wait_until(
        lambda: any(task.state == "deferred" for task in stack.airflow.task_states(DAG, run_id)),
        120,
        "training does not begin",
    )
    try:
        _let_fifty_minutes_pass(stack)
        (late,) = wait_until(lambda: stack.discord_embeds_of(run_id), 90, "Discord receives no alert of the late run")
    finally:
        end_run(stack.airflow, DAG, run_id)

    assert late["title"] == f"{DAG} is late"
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", run_id)
    (job,) = [job for job in stack.jobs() if readable in job["submission_id"]]
    wait_until(
        lambda: _status(stack, job["submission_id"]) == "STOPPED", 90, "the Ray job of an ended run is not stopped"
    )


def _status(stack: EmbeddedStack, submission_id: str) -> str:
    return next(str(job["status"]) for job in stack.jobs() if job["submission_id"] == submission_id)


def _let_fifty_minutes_pass(stack: EmbeddedStack) -> None:
    """Move the deadline that Airflow stored to now."""
    with transaction(database_url(stack.config, stack.secrets, "airflow")) as cursor:
        cursor.execute("UPDATE deadline SET deadline_time = now() WHERE NOT missed")
        assert cursor.rowcount >= 1, "Airflow stored no deadline for the run"
