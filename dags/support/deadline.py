"""A run that hangs posts no report: Airflow itself tells when one is not done in time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

from make_us_rich.core.settings import get_settings
from make_us_rich.operations.alerts import Alert, post

_AFTER = timedelta(minutes=50)
_UNFINISHED = ("queued", "running")


async def tell_late(context: dict[str, Any], **_: Any) -> None:
    """Runs in the triggerer, once a run. A backfill's runs wait for each other and have no hour to keep.

    Airflow forgets the deadline of a run that succeeded, and remembers that of one that failed.
    """
    run = context["dag_run"]
    if run["run_type"] == "backfill" or run["state"] not in _UNFINISHED:
        return
    dag_id, run_id = run["dag_id"], run["dag_run_id"]
    settings = get_settings()
    alert = Alert(
        title=f"{dag_id} is late",
        text=f"Not done {_AFTER.seconds // 60} minutes after it was due, and {run['state']}. "
        "It may hang: see which task runs.",
        fields={"DAG": dag_id, "Run": run_id},
        link=f"{settings.airflow_link_url}/dags/{dag_id}/runs/{quote(run_id)}",
    )
    await asyncio.to_thread(post, alert, settings)


DEADLINE = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=_AFTER, callback=AsyncCallback(tell_late)
)
"""Counted from when the run was queued: for the hourly run its hour."""
