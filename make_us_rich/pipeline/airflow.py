"""Client of Airflow's REST API: the command line, the demo and the dashboard's admins start and follow runs with it.

`RunProgress` prints a run: the tasks of each pair from Airflow, its training steps from Ray's job logs.

Source: https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

import httpx

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.interval import Interval
from make_us_rich.core.responses import CONNECTIONS, bearer, read_json
from make_us_rich.core.settings import Settings

T = TypeVar("T")

ENDED = frozenset({"success", "failed"})
_API = "/api/v2"
_TIMEOUT_S = 30.0
_PAGE = 100  # Airflow's largest page
_PAUSING_EVENTS = ("patch_dag", "patch_dags", "cli_dag_pause", "cli_dag_unpause")
_POLL_S = 2.0  # a poll takes a tenth of a second of CPU from the run that it follows
_RAY_TIMEOUT_S = 10.0
# The states that are printed, in rich's markup.
_SHOWN = {
    "running": "…",
    "success": "done",
    "failed": "[red]failed[/red]",
    "up_for_retry": "[yellow]failed, will be retried[/yellow]",
    "upstream_failed": "[red]skipped: a task before it failed[/red]",
}


def dag_of(work: Literal["train_pairs", "train_foundation", "score_forecasts"], interval: Interval) -> str:
    """Return the id of the DAG that does this work for one interval: `train_pairs`, or `train_pairs_4h`."""
    return work if interval == Interval.H1 else f"{work}_{interval}"


class AirflowError(MakeUsRichError):
    """Airflow refused a request or cannot be reached."""


@dataclass(frozen=True)
class TaskState:
    task_id: str
    map_index: int  # -1 when the task is not mapped
    label: str  # the name of the map index in the grid, such as btc_usdt
    state: str
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class DagState:
    dag_id: str
    paused: bool
    ended_s: float | None  # when its newest ended run ended, seconds since 1970; None when none has


class Airflow:
    """A logged-in session. Every method raises AirflowError when Airflow refuses or cannot be reached."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_S, limits=CONNECTIONS)
        try:
            answer = self.request("POST", "/auth/token", {"username": user, "password": password})
            token = read_json(answer, lambda body: body["access_token"], AirflowError)
        except AirflowError:
            self._http.close()
            raise
        self._http.headers.update(bearer(token))

    @classmethod
    def from_settings(cls, settings: Settings) -> Airflow:
        """Log in with the user and password of the settings."""
        return cls(settings.airflow_url, settings.airflow_user, settings.airflow_password.get_secret_value())

    def __enter__(self) -> Airflow:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._http.close()

    def has_dag(self, dag_id: str) -> bool:
        return dag_id in self.dag_ids()

    def dag_ids(self) -> list[str]:
        """Return the ids of the DAGs that Airflow has parsed."""
        return list(self._paused_by_dag())

    def dag_states(self) -> list[DagState]:
        """Return of each DAG whether it is paused, and when its newest run ended, successful or not."""
        paused = self._paused_by_dag()
        return [DagState(dag_id, is_paused, self._ended_s(dag_id)) for dag_id, is_paused in paused.items()]

    def _paused_by_dag(self) -> dict[str, bool]:
        return self._get(
            f"{_API}/dags?limit={_PAGE}", lambda body: {dag["dag_id"]: bool(dag["is_paused"]) for dag in body["dags"]}
        )

    def _ended_s(self, dag_id: str) -> float | None:
        query = "state=success&state=failed&order_by=-end_date&limit=1"
        path = f"{_API}/dags/{dag_id}/dagRuns?{query}"
        ended = self._get(path, lambda body: [_time(run["end_date"]) for run in body["dag_runs"]])
        return ended[0].timestamp() if ended and ended[0] else None

    def unpause(self, dag_id: str) -> None:
        """Let the schedule start runs; Airflow starts one at once."""
        self.request("PATCH", f"{_API}/dags/{dag_id}", {"is_paused": False})

    def pause(self, dag_id: str) -> None:
        self.request("PATCH", f"{_API}/dags/{dag_id}", {"is_paused": True})

    def pause_all(self, paused: bool) -> list[str]:
        """Pause or unpause every DAG; return their ids."""
        dag_ids = self.dag_ids()
        for dag_id in dag_ids:
            (self.pause if paused else self.unpause)(dag_id)
        return dag_ids

    def paused_dags(self) -> list[str]:
        """Return the ids of the paused DAGs whose files Airflow reads."""
        return [dag_id for dag_id, is_paused in self._paused_by_dag().items() if is_paused]

    def unpause_untouched(self) -> list[str]:
        """Unpause the DAGs that are paused since Airflow first read them, and return their ids.

        A DAG that somebody has paused stays so, whether in Airflow, by its command line or by `mkrich stop agent`.
        """
        paused = self.paused_dags()
        touched = self._touched_dags() if paused else set()
        untouched = [] if None in touched else [dag_id for dag_id in paused if dag_id not in touched]
        for dag_id in untouched:
            self.unpause(dag_id)
        return untouched

    def _touched_dags(self) -> set[str | None]:
        """Return the DAGs that somebody has paused or unpaused, by Airflow's log; None for several at once."""
        events = "&".join(f"included_events={event}" for event in _PAUSING_EVENTS)
        touched: set[str | None] = set()
        total, offset = 1, 0
        while offset < total:
            path = f"{_API}/eventLogs?{events}&limit={_PAGE}&offset={offset}"
            page, total = self._get(
                path, lambda body: ([log["dag_id"] for log in body["event_logs"]], int(body["total_entries"]))
            )
            if not page:  # rows were removed while the pages were read
                break
            touched |= set(page)
            offset += len(page)
        return touched

    def start(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run as `trigger` does. Raises AirflowError while the DAG is paused, because no run of it begins then.

        It is not unpaused: that would start its schedule, which a person stopped.
        """
        if self._get(f"{_API}/dags/{dag_id}", lambda dag: bool(dag["is_paused"])):
            raise AirflowError(
                f"the schedule of {dag_id} is paused, and no run of it begins: unpause it in Airflow first, or "
                "all DAGs of an embedded stack with `mkrich start agent`"
            )
        return self.trigger(dag_id, conf)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run with these parameters and return its id."""
        body = {"logical_date": None, "conf": dict(conf or {})}
        answer = self.request("POST", f"{_API}/dags/{dag_id}/dagRuns", body)
        return read_json(answer, lambda body: str(body["dag_run_id"]), AirflowError)

    def active_runs(self, dag_id: str) -> list[str]:
        """Return the ids of the queued and running runs, oldest first."""
        query = f"state=queued&state=running&order_by=run_after&limit={_PAGE}"
        path = f"{_API}/dags/{dag_id}/dagRuns?{query}"
        return self._get(path, lambda body: [run["dag_run_id"] for run in body["dag_runs"]])

    def run_state(self, dag_id: str, run_id: str) -> str:
        return self._get(f"{_API}/dags/{dag_id}/dagRuns/{run_id}", lambda body: str(body["state"]))

    def task_states(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the state of each task instance of a run."""
        path = f"{_API}/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit={_PAGE}"
        states: list[TaskState] = []
        total = 1
        while len(states) < total:
            page, total = self._get(f"{path}&offset={len(states)}", _task_states)
            if not page:  # task instances were removed while the pages were read
                break
            states += page
        return states

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """Send a request; returns only a successful answer."""
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise AirflowError(f"Airflow at {self.url} cannot be reached: {error!r}") from error
        if answer.is_error:
            raise AirflowError(f"Airflow answered {answer.status_code} to {path}: {answer.text[:300]}")
        return answer

    def _get(self, path: str, read: Callable[[Any], T]) -> T:
        return read_json(self.request("GET", path), read, AirflowError)


def _task_states(body: Any) -> tuple[list[TaskState], int]:
    """Read one page: the states on it, and the number of states on all pages."""
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


class RunProgress:
    """Follows one run. An unreachable Ray cluster only leaves out the training steps."""

    def __init__(self, airflow: Airflow, dag_id: str, run_id: str, ray_url: str, ray_token: str) -> None:
        self._airflow = airflow
        self._dag_id = dag_id
        self._run_id = run_id
        self._ray_url = ray_url
        self._ray_headers = bearer(ray_token)
        self._printed_states: dict[tuple[str, int], str] = {}
        self._printed_steps: set[tuple[str, str]] = set()
        self._earlier_jobs = set(self._job_ids())

    def follow(self, print_line: Callable[[float, str], None], timeout_s: float | None = None) -> str:
        """Print each new line with the seconds since the call, until the run ends; return the state of the run.

        Raises AirflowError when the run takes longer than `timeout_s`; by default it may take as long as it does.
        """
        began = time.monotonic()
        while True:
            state = self._airflow.run_state(self._dag_id, self._run_id)
            for line in [*self._task_lines(), *self._training_lines()]:
                print_line(time.monotonic() - began, line)
            if state in ENDED:
                return state
            if timeout_s is not None and time.monotonic() - began > timeout_s:
                raise AirflowError(f"run {self._run_id} is not done after {timeout_s:.0f} s: see {self._airflow.url}")
            time.sleep(_POLL_S)

    def _task_lines(self) -> list[str]:
        lines = []
        for task in self._airflow.task_states(self._dag_id, self._run_id):
            key = (task.task_id, task.map_index)
            # Until a mapped task has begun, its label is a number.
            unlabelled = task.map_index >= 0 and (not task.label or task.label.isdigit())
            if self._printed_states.get(key) == task.state or task.state not in _SHOWN or unlabelled:
                continue
            self._printed_states[key] = task.state
            pair, pairs = ("", f" ({task.label})") if {",", ":"} & set(task.label) else (task.label, "")
            lines.append(f"{pair:<10} {task.task_id}: {_SHOWN[task.state]}{pairs}")
        return lines

    def _training_lines(self) -> list[str]:
        lines = []
        for submission_id in self._job_ids():
            if submission_id in self._earlier_jobs:
                continue
            for line in self._logs(submission_id):
                # A worker's line looks like "(RayTrainWorker pid=1) btc_usdt: features", and appears several times.
                pair, colon, step = line.rpartition(") ")[2].partition(": ")
                if colon and "_" in pair and " " not in pair and (pair, step) not in self._printed_steps:
                    self._printed_steps.add((pair, step))
                    lines.append(f"{pair:<10} train: {step}")
        return lines

    def _job_ids(self) -> list[str]:
        """Return the submission ids of this DAG's jobs."""
        ids = [str(job.get("submission_id") or "") for job in self._ask_ray("/api/jobs/") or []]
        return [submission_id for submission_id in ids if submission_id.startswith(f"{self._dag_id}-")]

    def _logs(self, submission_id: str) -> list[str]:
        answer = self._ask_ray(f"/api/jobs/{submission_id}/logs") or {}
        return (answer.get("logs") or "").splitlines()

    def _ask_ray(self, path: str) -> Any:
        """Return Ray's answer; None when it cannot be reached or answers with an error."""
        try:
            answer = httpx.get(f"{self._ray_url}{path}", headers=self._ray_headers, timeout=_RAY_TIMEOUT_S)
            return answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
