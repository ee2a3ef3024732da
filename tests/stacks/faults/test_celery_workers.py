"""The training DAG on the CeleryExecutor with two workers, of which one is lost while it fetches a pair's candles."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.celery_workers import celery_workers
from tests.support.embedded_stack import EmbeddedStack
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is missing: `make redis`"),
]

DAG = "train_pairs"
SLOW = "chz_usdt"
WORKERS = ("worker-1", "worker-2")
# without heartbeats for this long, a running task counts as lost; Airflow's default is 300 s
SETTINGS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
}


def test_a_lost_worker_costs_a_try_and_the_other_one_completes_the_run(stack: EmbeddedStack, tmp_path: Path) -> None:
    faults = f"{stack.config.url('exchange')}/_control/faults"
    with celery_workers(stack, WORKERS, SETTINGS, tmp_path) as workers:
        httpx.post(faults, json={"kind": "timeout", "symbol": "CHZUSDT"}).raise_for_status()
        try:
            run_id = stack.airflow.trigger(DAG)
            lost = wait_until(lambda: _worker_that_fetches(stack, run_id, SLOW), 120, "no worker fetches the pair")
            wait_until(lambda: _fetched(stack, run_id) >= 2, 120, "the other worker does not fetch the other pairs")
            workers.kill(lost)
        finally:
            httpx.delete(faults).raise_for_status()
        state = stack.wait_for_run(DAG, run_id, 300)

    tasks = _tasks(stack, run_id)
    assert state == "success", stack.states(DAG, run_id)
    (other,) = set(WORKERS) - {lost}
    retried = [task for task in tasks if task["task_id"] == "fetch" and task["rendered_map_index"] == SLOW]
    assert [(task["hostname"], task["try_number"]) for task in retried] == [(other, 2)]
    assert {task["state"] for task in tasks if task["task_id"] == "promote"} == {"success"}


def _tasks(stack: EmbeddedStack, run_id: str) -> list[dict[str, Any]]:
    path = f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances?limit=100"
    tasks: list[dict[str, Any]] = stack.airflow.request("GET", path).json()["task_instances"]
    return tasks


def _worker_that_fetches(stack: EmbeddedStack, run_id: str, pair: str) -> str:
    running = [task for task in _tasks(stack, run_id) if (task["task_id"], task["state"]) == ("fetch", "running")]
    return next((task["hostname"] for task in running if task["rendered_map_index"] == pair), "")


def _fetched(stack: EmbeddedStack, run_id: str) -> int:
    return len([task for task in _tasks(stack, run_id) if (task["task_id"], task["state"]) == ("fetch", "success")])
