"""Airflow's REST API, as far as the demo, the dashboard's admins and the tests trigger and follow runs.

Source: https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

import httpx

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.responses import read_json

_TIMEOUT_S = 30.0
_PAGE = 100  # Airflow gives no more at once
ENDED = frozenset({"success", "failed"})


class AirflowError(MakeUsRichError):
    """Airflow refused a request or cannot be reached."""


@dataclass(frozen=True)
class TaskState:
    task_id: str
    map_index: int  # -1 when the task is not mapped
    label: str  # the map index as the grid shows it, such as btc_usdt
    state: str
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None


class Airflow:
    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_S)
        login = {"username": user, "password": password}
        try:
            token = self._call("POST", "/auth/token", login, read=lambda body: body["access_token"])
        except AirflowError:
            self._http.close()
            raise
        self._http.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Airflow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def has_dag(self, dag_id: str) -> bool:
        try:
            return self._http.get(f"/api/v2/dags/{dag_id}").is_success
        except httpx.HTTPError as error:
            raise AirflowError(f"Airflow at {self._http.base_url} cannot be reached: {error!r}") from error

    def dag_ids(self) -> list[str]:
        """Ids of the DAGs that Airflow has parsed."""
        path = f"/api/v2/dags?limit={_PAGE}"
        return list(self._call("GET", path, read=lambda body: [dag["dag_id"] for dag in body["dags"]]))

    def unpause(self, dag_id: str) -> None:
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def pause(self, dag_id: str) -> None:
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True})

    def is_paused(self, dag_id: str) -> bool:
        paused: bool = self._call("GET", f"/api/v2/dags/{dag_id}")["is_paused"]
        return paused

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run with these parameters; returns its id."""
        body = {"logical_date": None, "conf": dict(conf or {})}
        path = f"/api/v2/dags/{dag_id}/dagRuns"
        return str(self._call("POST", path, body, read=lambda made: made["dag_run_id"]))

    def backfill(self, dag_id: str, start: datetime, end: datetime, conf: Mapping[str, Any]) -> int:
        """Run every interval that begins between these two, again where it ran before; returns the backfill's id."""
        body = {
            "dag_id": dag_id,
            "from_date": start.isoformat(),
            "to_date": end.isoformat(),
            "dag_run_conf": dict(conf),
            "reprocess_behavior": "completed",
            "max_active_runs": 2,
        }
        return int(self._call("POST", "/api/v2/backfills", body, read=lambda made: made["id"]))

    def backfill_is_done(self, backfill_id: int) -> bool:
        path = f"/api/v2/backfills/{backfill_id}"
        return bool(self._call("GET", path, read=lambda body: body["completed_at"] is not None))

    def active_runs(self, dag_id: str) -> list[str]:
        """Ids of the runs that are queued or running, oldest first."""
        asked = f"state=queued&state=running&order_by=run_after&limit={_PAGE}"
        path = f"/api/v2/dags/{dag_id}/dagRuns?{asked}"
        return list(self._call("GET", path, read=lambda body: [run["dag_run_id"] for run in body["dag_runs"]]))

    def end_run(self, dag_id: str, run_id: str) -> None:
        """Mark a run as failed, which stops its tasks."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", {"state": "failed"})

    def run_state(self, dag_id: str, run_id: str) -> str:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        return str(self._call("GET", path, read=lambda body: body["state"]))

    def task_states(self, dag_id: str, run_id: str) -> list[TaskState]:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit={_PAGE}"
        states: list[TaskState] = []
        total = 1
        while len(states) < total:
            page, total = self._call("GET", f"{path}&offset={len(states)}", read=_task_states)
            if not page:  # some went away meanwhile
                break
            states += page
        return states

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        read: Callable[[Any], Any] = lambda body: body,
    ) -> Any:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise AirflowError(f"Airflow at {self._http.base_url} cannot be reached: {error!r}") from error
        if answer.is_error:
            raise AirflowError(f"Airflow answered {answer.status_code} to {path}: {answer.text[:300]}")
        return read_json(answer, read, AirflowError)


def _task_states(body: Any) -> tuple[list[TaskState], int]:
    """Those of one page, and how many there are in all."""
    states = [
        TaskState(
            item["task_id"],
            item["map_index"],
            item.get("rendered_map_index") or "",
            item["state"] or "none",
            item["try_number"],
            _time(item["start_date"]),
            _time(item["end_date"]),
        )
        for item in body["task_instances"]
    ]
    return states, int(body["total_entries"])


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
