"""What is new in a DAG run, in lines: each pair's tasks from Airflow, the steps of its training from Ray."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from make_us_rich.operations.airflow import ENDED, Airflow, AirflowError

_SHOWN = {
    "running": "…",
    "success": "done",
    "failed": "[red]failed[/red]",
    "up_for_retry": "[yellow]failed, will be tried again[/yellow]",
    "upstream_failed": "[red]not run: what it needs failed[/red]",
}


class RunProgress:
    def __init__(self, airflow: Airflow, dag_id: str, run_id: str, ray_url: str, ray_token: str) -> None:
        self._airflow = airflow
        self._dag_id = dag_id
        self._run_id = run_id
        self._ray = httpx.Client(base_url=ray_url, headers={"Authorization": f"Bearer {ray_token}"}, timeout=10)
        self._told: dict[tuple[str, int], str] = {}
        self._steps_told: set[tuple[str, str]] = set()
        self._old_jobs = {job["submission_id"] for job in self._jobs()}

    def follow(self, say: Callable[[float, str], None], timeout_s: float) -> str:
        """Tell each line with the seconds since the start until the run ends; returns its state.

        Raises AirflowError when it takes longer than `timeout_s`.
        """
        began = time.monotonic()
        while True:
            state = self._airflow.run_state(self._dag_id, self._run_id)
            for line in self.news():
                say(time.monotonic() - began, line)
            if state in ENDED:
                return state
            if time.monotonic() - began > timeout_s:
                raise AirflowError(f"run {self._run_id} is not done after {timeout_s:.0f} s: see {self._airflow.url}")
            time.sleep(0.5)

    def news(self) -> list[str]:
        """Lines for everything that changed since the last call."""
        return [*self._task_news(), *self._training_news()]

    def _task_news(self) -> list[str]:
        news = []
        for task in self._airflow.task_states(self._dag_id, self._run_id):
            key = (task.task_id, task.map_index)
            # a mapped task is called by its number until it has begun
            nameless = task.map_index >= 0 and (not task.label or task.label.isdigit())
            if self._told.get(key) == task.state or task.state not in _SHOWN or nameless:
                continue
            self._told[key] = task.state
            name = task.task_id.rpartition(".")[2]
            who = "" if "," in task.label else task.label
            news.append(f"{who:<10} {name}: {_SHOWN[task.state]}")
        return news

    def _training_news(self) -> list[str]:
        news = []
        for job in self._jobs():
            submission_id = job["submission_id"]
            if submission_id in self._old_jobs:
                continue
            for line in self._logs(submission_id):
                # a worker's line arrives as "(RayTrainWorker pid=1) btc_usdt: features", more than once
                pair, colon, step = line.rpartition(") ")[2].partition(": ")
                if colon and "_" in pair and " " not in pair and (pair, step) not in self._steps_told:
                    self._steps_told.add((pair, step))
                    news.append(f"{pair:<10} train: {step}")
        return news

    def _jobs(self) -> list[dict[str, str]]:
        try:
            jobs = self._ray.get("/api/jobs/").raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return []
        return [job for job in jobs if (job.get("submission_id") or "").startswith(self._dag_id)]

    def _logs(self, submission_id: str) -> list[str]:
        try:
            answer = self._ray.get(f"/api/jobs/{submission_id}/logs").raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return []
        return (answer.get("logs") or "").splitlines()
