"""Calls of Airflow's REST API that only tests need."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from make_us_rich.pipeline.airflow import Airflow


def is_paused(airflow: Airflow, dag_id: str) -> bool:
    return bool(airflow.request("GET", f"/api/v2/dags/{dag_id}").json()["is_paused"])


def end_run(airflow: Airflow, dag_id: str, run_id: str) -> None:
    """Mark a run as failed, which stops its tasks."""
    airflow.request("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", {"state": "failed"})


def start_backfill(airflow: Airflow, dag_id: str, start: datetime, end: datetime, conf: Mapping[str, Any]) -> int:
    """Run every interval that begins between these two times, also those that ran before; return the backfill's id."""
    body = {
        "dag_id": dag_id,
        "from_date": start.isoformat(),
        "to_date": end.isoformat(),
        "dag_run_conf": dict(conf),
        "reprocess_behavior": "completed",
        "max_active_runs": 2,
    }
    return int(airflow.request("POST", "/api/v2/backfills", body).json()["id"])


def backfill_is_done(airflow: Airflow, backfill_id: int) -> bool:
    return airflow.request("GET", f"/api/v2/backfills/{backfill_id}").json()["completed_at"] is not None
