"""Prints the progress of a DAG run: the tasks of each pair from Airflow, its training steps from Ray's job logs."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from make_us_rich.operations.airflow import ENDED, Airflow, AirflowError

_POLL_S = 0.5
_RAY_TIMEOUT_S = 10.0
# The states that are printed, in rich's markup.
_SHOWN = {
    "running": "…",
    "success": "done",
    "failed": "[red]failed[/red]",
    "up_for_retry": "[yellow]failed, will be retried[/yellow]",
    "upstream_failed": "[red]skipped: a task before it failed[/red]",
}


class RunProgress:
    """Follows one run. An unreachable Ray cluster only leaves out the training steps."""

    def __init__(self, airflow: Airflow, dag_id: str, run_id: str, ray_url: str, ray_token: str) -> None:
        self._airflow = airflow
        self._dag_id = dag_id
        self._run_id = run_id
        headers = {"Authorization": f"Bearer {ray_token}"}
        self._ray = httpx.Client(base_url=ray_url, headers=headers, timeout=_RAY_TIMEOUT_S)
        self._printed_states: dict[tuple[str, int], str] = {}
        self._printed_steps: set[tuple[str, str]] = set()
        self._earlier_jobs = set(self._job_ids())

    def follow(self, print_line: Callable[[float, str], None], timeout_s: float) -> str:
        """Print each new line with the seconds since the call, until the run ends; return the state of the run.

        Raises AirflowError when the run takes longer than `timeout_s`.
        """
        began = time.monotonic()
        while True:
            state = self._airflow.run_state(self._dag_id, self._run_id)
            for line in [*self._task_lines(), *self._training_lines()]:
                print_line(time.monotonic() - began, line)
            if state in ENDED:
                return state
            if time.monotonic() - began > timeout_s:
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
            pair = "" if "," in task.label else task.label
            lines.append(f"{pair:<10} {task.task_id}: {_SHOWN[task.state]}")
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
        try:
            jobs = self._ray.get("/api/jobs/").raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return []
        ids = [str(job.get("submission_id") or "") for job in jobs]
        return [submission_id for submission_id in ids if submission_id.startswith(self._dag_id)]

    def _logs(self, submission_id: str) -> list[str]:
        try:
            answer = self._ray.get(f"/api/jobs/{submission_id}/logs").raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return []
        return (answer.get("logs") or "").splitlines()
