"""What Airflow and Ray cost beyond the training itself, at 3 pairs and at 100.

    .venv/bin/python -m benchmarks.orchestration

Starts the embedded stack in a folder of its own on the simulated market, runs the hourly DAG, and prints a table for
docs/reference/performance.md. A run's overhead is its time less the time its workers trained.
All pairs are served pooled.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from make_us_rich.operations.airflow import ENDED
from tests.support.folders import traversable_folder

MANY = 100
DAG_ID = "train_pairs"
_PORT_BASE = 13_000
_FIRST = ("btc_usdt", "eth_usdt", "chz_usdt")
_PARSE = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
DagBag(sys.argv[1] + "/train_pairs.py")  # what all of them import, paid once by a warm processor
found = {}
for name in sys.argv[2:]:
    began = time.perf_counter()
    DagBag(f"{sys.argv[1]}/{name}.py")
    found[name] = time.perf_counter() - began
print("RESULT" + json.dumps(found))
"""


def main() -> None:
    parse_s = _parse_seconds()
    with traversable_folder() as home:
        run_s, training_s, imports_torch = _on_a_stack(home)
    overhead = {count: run_s[count] - training_s[count] for count in run_s}
    slowest = max(parse_s, key=lambda name: parse_s[name])
    rows = [
        ("run of 3 pairs", f"{run_s[3]:.0f} s, {training_s[3]:.0f} s of it training", ""),
        ("overhead of that run", f"{overhead[3]:.0f} s", "60 s"),
        (f"run of {MANY} pairs", f"{run_s[MANY]:.0f} s, {training_s[MANY]:.0f} s of it training", ""),
        ("overhead a pair of that run", f"{overhead[MANY] / MANY:.2f} s", "2 s"),
        (f"slowest DAG file to parse, {slowest}", f"{parse_s[slowest]:.2f} s", "1 s"),
        ("torch in the scheduler or its workers", "yes" if imports_torch else "no", "no"),
    ]
    print("\n| what | measured | goal |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def _on_a_stack(home: Path) -> tuple[dict[int, float], dict[int, float], bool]:
    """(seconds of each run, of these training, whether torch is in the scheduler), runs by their number of pairs."""
    pairs = [*_FIRST, *(f"coin{number}_usdt" for number in range(MANY - len(_FIRST)))]
    os.environ |= {
        "MUR_STACK_HOME": str(home),
        "MUR_PORT_BASE": str(_PORT_BASE),
        "MUR_PAIRS": ",".join(pairs),
        "MUR_POOLED_PAIRS": ",".join(pairs),
        "MUR_HISTORY_CANDLES": "3000",
        "MUR_DAGS_PAUSED": "true",
    }
    from make_us_rich.embedded import lifecycle
    from make_us_rich.embedded.stack_config import new_stack_config

    config = new_stack_config("simulated")
    lifecycle.up(config)
    try:
        return _measure(lifecycle.open_stack(config), pairs)
    finally:
        lifecycle.down(config)


def _measure(stack: Any, pairs: list[str]) -> tuple[dict[int, float], dict[int, float], bool]:
    from make_us_rich.embedded.environment import ADMIN
    from make_us_rich.operations.airflow import Airflow

    config = stack.config
    run_s, training_s = {}, {}
    with Airflow(config.url("airflow"), ADMIN, stack.secrets.admin_password) as airflow:
        airflow.unpause(DAG_ID)
        while not (scheduled := airflow.active_runs(DAG_ID)):
            time.sleep(0.2)
        airflow.request("PATCH", f"/api/v2/dags/{DAG_ID}/dagRuns/{scheduled[0]}", {"state": "failed"})
        for chosen in (list(_FIRST), pairs):
            run_id = airflow.trigger(DAG_ID, {"pairs": chosen, "as_of": _hours_ago(1 if chosen == pairs else 2)})
            run_s[len(chosen)] = _seconds_of(airflow, run_id)
            print(f"{len(chosen)} pairs: {run_s[len(chosen)]:.0f} s")
            _print_steps(airflow, run_id)
            training_s[len(chosen)] = _training_seconds(stack, run_id)
    return run_s, training_s, _torch_is_loaded(config)


def _print_steps(airflow: Any, run_id: str) -> None:
    """When each task began and ended, all its pairs together, in seconds since the first one began."""
    spans: dict[str, list[tuple[datetime, datetime]]] = {}
    for item in airflow.task_states(DAG_ID, run_id):
        if item.started_at and item.ended_at:
            spans.setdefault(item.task_id, []).append((item.started_at, item.ended_at))
    began = min(start for times in spans.values() for start, _ in times)
    for task_id, times in sorted(spans.items(), key=lambda item: min(item[1])):
        first, last = min(start for start, _ in times), max(end for _, end in times)
        each = sum((end - start).total_seconds() for start, end in times) / len(times)
        print(
            f"  {task_id:18} {(first - began).total_seconds():5.0f} to {(last - began).total_seconds():3.0f} s,"
            f" {len(times):3} times, {each:.1f} s each",
            flush=True,
        )


def _hours_ago(hours: int) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat()


def _seconds_of(airflow: Any, run_id: str) -> float:
    began = time.monotonic()
    while (state := airflow.run_state(DAG_ID, run_id)) not in ENDED:
        time.sleep(0.2)
    if state != "success":
        raise SystemExit(f"{run_id} failed: see Airflow's logs")
    return time.monotonic() - began


def _training_seconds(stack: Any, run_id: str) -> float:
    """Of the run's jobs: the seconds of all pairs, shared by the workers."""
    from make_us_rich.core.settings import Settings
    from make_us_rich.market.object_store import ObjectStore
    from make_us_rich.operations import job_results

    keys = stack.secrets.s3_access_key, stack.secrets.s3_secret_key
    bucket = ObjectStore(stack.config.url("s3"), *keys, Settings().candles_bucket)
    # the submission id holds the run id, with what Ray refuses replaced
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", run_id)
    jobs = {key.split("/")[1] for key in bucket.list_keys("jobs/") if readable in key}
    results = [result for job in jobs for result in job_results.of_job(bucket, job)]
    return sum(result.seconds for result in results) / Settings().train_workers


def _torch_is_loaded(config: Any) -> bool:
    """By any process below the scheduler: its workers run the tasks."""
    from make_us_rich.embedded import lifecycle

    (scheduler,) = [state.pid for state in lifecycle.status(config) if state.name == "airflow-scheduler"]
    family = [psutil.Process(scheduler), *psutil.Process(scheduler).children(recursive=True)]
    return any("libtorch" in Path(f"/proc/{process.pid}/maps").read_text() for process in family)


def _parse_seconds() -> dict[str, float]:
    folder = Path(__file__).resolve().parents[1] / "dags"
    helpers = set((folder / ".airflowignore").read_text().split()) | {"__init__.py"}
    names = sorted(path.stem for path in folder.glob("*.py") if path.name not in helpers)
    command = [sys.executable, "-c", _PARSE, str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (result,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    found: dict[str, float] = json.loads(result.removeprefix("RESULT"))
    return found


if __name__ == "__main__":
    main()
