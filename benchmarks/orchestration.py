"""Start of the embedded stack, its memory, and the time of training runs of 3 and of 100 pairs.

    .venv/bin/python -m benchmarks.orchestration [--pairs 100]

Prints the tables of docs/reference/performance.md. The overhead of a run is its time less the training time of its
workers. The pairs have simulated prices; they are trained from scratch and served by the pool.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from benchmarks.stack import print_table, settings_of, temporary_stack_config
from make_us_rich.core.pair import Pair
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.environment import ADMIN
from make_us_rich.embedded.lifecycle import Stack
from make_us_rich.embedded.stack_config import PROJECT_ROOT, StackConfig
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.operations.airflow import ENDED, Airflow
from make_us_rich.operations.ray_jobs import job_results

DAG_ID = "train_pairs"
FEW = ("btc_usdt", "eth_usdt", "chz_usdt")
_PARSE = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
DagBag(sys.argv[1] + "/train_pairs.py")  # what all of them import: a running DAG processor has it in memory
seconds = {}
for name in sys.argv[2:]:
    began = time.perf_counter()
    DagBag(f"{sys.argv[1]}/{name}.py")
    seconds[name] = time.perf_counter() - began
print("RESULT" + json.dumps(seconds))
"""


@dataclass(frozen=True)
class Run:
    pairs: int
    seconds: float
    training_s: float

    @property
    def overhead_s(self) -> float:
        return self.seconds - self.training_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100, help="pairs of the second run")
    many = parser.parse_args().pairs
    pairs = [Pair.parse(name) for name in [*FEW, *(f"coin{number}_usdt" for number in range(many - len(FEW)))]]
    names = ",".join(map(str, pairs))
    parse_s = _parse_seconds()
    slowest = max(parse_s, key=lambda name: parse_s[name])
    settings = {"MUR_PAIRS": names, "MUR_POOLED_PAIRS": names, "MUR_HISTORY_CANDLES": "3000"}
    with temporary_stack_config(settings) as config:
        first_start_s = _seconds(lambda: lifecycle.up(config))
        down_s = _seconds(lambda: lifecycle.down(config))
        warm_start_s = _seconds(lambda: lifecycle.up(config))
        small, large = _runs(lifecycle.open_stack(config), pairs)
        memory = lifecycle.memory_bytes(config)
        torch_loaded = _loads_torch(config, "airflow-scheduler")
    print_table(
        [
            ("stack ready, first start", f"{first_start_s:.0f} s", ""),
            ("stack ready, warm", f"{warm_start_s:.0f} s", "90 s"),
            ("stack down", f"{down_s:.0f} s", ""),
            ("memory of the stack, PSS", f"{sum(memory.values()) / 2**30:.1f} GiB", "6 GiB"),
            (f"run of {small.pairs} pairs", f"{small.seconds:.0f} s, {small.training_s:.0f} s of it training", "120 s"),
            ("overhead of that run", f"{small.overhead_s:.0f} s", "60 s"),
            (f"run of {large.pairs} pairs", f"{large.seconds:.0f} s, {large.training_s:.0f} s of it training", ""),
            ("overhead per pair of that run", f"{large.overhead_s / large.pairs:.2f} s", "2 s"),
            (f"slowest DAG file to parse, {slowest}", f"{parse_s[slowest]:.2f} s", "1 s"),
            ("torch in the scheduler or its workers", "yes" if torch_loaded else "no", "no"),
        ]
    )
    print("\n| component | PSS |\n|---|---|")
    for name, size in sorted(memory.items(), key=lambda item: -item[1]):
        print(f"| {name} | {size / 2**20:,.0f} MiB |")


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _runs(stack: Stack, pairs: Sequence[Pair]) -> tuple[Run, Run]:
    """Run the DAG for a few pairs, as its schedule does, then for all of them."""
    database = Database.from_settings(settings_of(stack))
    with Airflow(stack.config.url("airflow"), ADMIN, stack.secrets.admin_password) as airflow:
        while not airflow.has_dag(DAG_ID):
            time.sleep(0.2)
        for pair in pairs[len(FEW) :]:
            pairs_table.put(database, pair, plan="off")
        airflow.unpause(DAG_ID)
        while not (scheduled := airflow.active_runs(DAG_ID)):  # unpausing starts the run of the last hour
            time.sleep(0.2)
        small = _finish(stack, airflow, scheduled[0], len(FEW))
        for pair in pairs[len(FEW) :]:
            pairs_table.put(database, pair, plan="pooled")
        # Another hour than that of the first run, whose models would be used again.
        as_of = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        large = airflow.trigger(DAG_ID, {"pairs": [str(pair) for pair in pairs], "as_of": as_of})
        return small, _finish(stack, airflow, large, len(pairs))


def _finish(stack: Stack, airflow: Airflow, run_id: str, pairs: int) -> Run:
    """Wait until the run ends and print its tasks."""
    began = time.monotonic()
    while (state := airflow.run_state(DAG_ID, run_id)) not in ENDED:
        time.sleep(0.2)
    if state != "success":
        raise SystemExit(f"{run_id} failed: see Airflow's logs")
    run = Run(pairs, time.monotonic() - began, _training_seconds(stack, run_id))
    print(f"{pairs} pairs: {run.seconds:.0f} s")
    _print_tasks(airflow, run_id)
    return run


def _print_tasks(airflow: Airflow, run_id: str) -> None:
    """Print when the first instance of each task began and the last ended, in seconds since the run's first task."""
    spans: dict[str, list[tuple[datetime, datetime]]] = {}
    for task in airflow.task_states(DAG_ID, run_id):
        if task.started_at and task.ended_at:
            spans.setdefault(task.task_id, []).append((task.started_at, task.ended_at))
    began = min(start for times in spans.values() for start, _ in times)
    for task_id, times in sorted(spans.items(), key=lambda item: min(item[1])):
        first, last = min(start for start, _ in times), max(end for _, end in times)
        each = sum((end - start).total_seconds() for start, end in times) / len(times)
        print(
            f"  {task_id:18} {(first - began).total_seconds():5.0f} to {(last - began).total_seconds():3.0f} s,"
            f" {len(times):3} times, {each:.1f} s each",
            flush=True,
        )


def _training_seconds(stack: Stack, run_id: str) -> float:
    """Return the seconds that training took: the sum over the pairs of the run's jobs, divided by the workers."""
    settings = settings_of(stack)
    store = ObjectStore.from_settings(settings)
    # The submission id holds the run id, with the characters replaced that Ray refuses.
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", run_id)
    jobs = {key.split("/")[1] for key in store.list_keys("jobs/") if readable in key}
    results = [result for job in jobs for result in job_results(store, job)]
    return float(sum(result.seconds for result in results) / settings.train_workers)


def _loads_torch(config: StackConfig, program: str) -> bool:
    """True if the program or one of its descendants has loaded libtorch."""
    (pid,) = [state.pid for state in lifecycle.status(config) if state.name == program]
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return any("libtorch" in Path(f"/proc/{process.pid}/maps").read_text() for process in processes)


def _parse_seconds() -> dict[str, float]:
    """Return the seconds that Airflow takes to read each DAG file."""
    folder = PROJECT_ROOT / "dags"
    names = sorted(path.stem for path in folder.glob("*.py") if path.name != "__init__.py")
    command = [sys.executable, "-c", _PARSE, str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (result,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    seconds: dict[str, float] = json.loads(result.removeprefix("RESULT"))
    return seconds


if __name__ == "__main__":
    main()
