"""What Airflow and Ray cost: the start and memory of a stack, runs of more and more pairs, and the compute budget.

    .venv/bin/python -m benchmarks.orchestration [start] [runs] [budget]

All parts by default. `start` and `budget` print tables of docs/reference/performance.md, `runs` that of
docs/reference/sizing.md. The pairs have simulated prices, are fine-tuned from the shipped foundation and served by the
pool. `budget` has more pairs than fit into a run, and fails when a pair was trained again before every other had its
turn.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks.stack import print_table, settings_of, temporary_stack_config
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import to_ms
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import JobResult
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.environment import ADMIN
from make_us_rich.embedded.lifecycle import Stack
from make_us_rich.embedded.stack_config import PROJECT_ROOT, StackConfig
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.pipeline.airflow import ENDED, Airflow
from make_us_rich.pipeline.ray_jobs import job_results

DAG_ID = "train_pairs"
NAMED = ("btc_usdt", "eth_usdt", "chz_usdt")
_SAMPLE_EVERY_S = 10.0
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
class MeasuredRun:
    """A run of train_pairs. `spans`: when each task's first instance began and its last one ended, in seconds.

    `written`: rows, objects and requests to the exchange.
    """

    pairs: int
    results: Sequence[JobResult]
    workers: int
    spans: Mapping[str, tuple[float, float]]
    peak_bytes: int
    written: Sequence[int]

    @property
    def seconds(self) -> float:
        return max(ended for _, ended in self.spans.values())  # without waiting for the scheduled run of a new hour

    @property
    def training_s(self) -> float:
        return sum(result.seconds for result in self.results) / self.workers

    def task_s(self, task_id: str) -> float:
        began, ended = self.spans[task_id]
        return ended - began

    def row(self) -> str:
        overhead_s = self.seconds - self.training_s
        ray_s, serving_s = self.task_s("train") - self.training_s, self.task_s("refresh_serving")
        rows, objects, requests = self.written
        return (
            f"| {self.pairs} | {self.seconds:.0f} s | {self.training_s:.0f} s | {ray_s:.0f} s"
            f" | {overhead_s - ray_s - serving_s:.0f} s | {serving_s:.0f} s | {overhead_s / self.pairs:.2f} s"
            f" | {self.peak_bytes / 2**30:.1f} GiB | {rows:,} | {objects:,} | {requests:,} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="start|runs|budget", help="what to measure; all by default")
    parser.add_argument("--pairs", default="3,30,100,300", help="of each of the runs, in growing order")
    parser.add_argument("--budget-pairs", type=int, default=200)
    parser.add_argument("--minutes", default="5", help="MUR_TRAINING_MINUTES of the budget")
    args = parser.parse_args()
    parts: Mapping[str, Callable[[], None]] = {
        "start": _start,
        "runs": lambda: _growing_runs([int(text) for text in args.pairs.split(",")]),
        "budget": lambda: _budget(args.budget_pairs, args.minutes),
    }
    if unknown := set(args.parts) - set(parts):
        parser.error(f"unknown part {', '.join(sorted(unknown))}: choose from {', '.join(parts)}")
    for part in args.parts or parts:
        parts[part]()


def _start() -> None:
    """Measure the start of the stack, its memory, and the time in which Airflow reads the DAGs."""
    parse_s = _parse_seconds()
    slowest = max(parse_s, key=lambda name: parse_s[name])
    with temporary_stack_config({}) as config:
        first_start_s = _seconds(lambda: lifecycle.up(config))
        down_s = _seconds(lambda: lifecycle.down(config))
        warm_start_s = _seconds(lambda: lifecycle.up(config))
        memory = lifecycle.memory_bytes(config)
        torch_loaded = _loads_torch(config, "airflow-scheduler")
    print_table(
        [
            ("stack ready, first start", f"{first_start_s:.0f} s", ""),
            ("stack ready, warm", f"{warm_start_s:.0f} s", "90 s"),
            ("stack down", f"{down_s:.0f} s", ""),
            ("memory of the stack, PSS", f"{sum(memory.values()) / 2**30:.1f} GiB", "6 GiB"),
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


def _growing_runs(counts: Sequence[int]) -> None:
    """Run the DAG for more pairs each time. An extra first run starts what a new stack has not started yet."""
    pairs = _simulated_pairs(max(counts))
    with _running_stack(pairs) as (stack, airflow), Database.from_settings(settings_of(stack)) as database:
        for pair in pairs:
            pairs_table.put(database, pair, plan="off")
        hours = _last_hours(len(counts) + 1)
        _store_candles(stack, pairs, hours[0] - timedelta(hours=1))
        finish(airflow, DAG_ID, _first_scheduled(airflow))  # it finds no active pair and fails
        runs = []
        for count, as_of in zip([counts[0], *counts], hours, strict=True):
            for pair in pairs[:count]:
                pairs_table.put(database, pair, plan="pooled")
            runs.append(_run(stack, airflow, {"pairs": pairs[:count], "as_of": as_of.isoformat()}))
    print("\n| pairs | run | training | Ray | Airflow | serving | overhead a pair", end="")
    print(f" | memory, PSS | rows written | objects written | requests to the exchange |\n{'|---' * 11}|")
    for run in runs[1:]:
        print(run.row())


def _budget(count: int, minutes: str) -> None:
    """Run the DAG for three consecutive hours with more pairs than fit."""
    with _running_stack(_simulated_pairs(count), MUR_TRAINING_MINUTES=minutes) as (stack, airflow):
        airflow.request("PATCH", f"/api/v2/dags/{DAG_ID}/dagRuns/{_first_scheduled(airflow)}", {"state": "failed"})
        runs = [_run(stack, airflow, {"as_of": as_of.isoformat()}) for as_of in _last_hours(3)]
    times: Counter[str] = Counter()
    print(f"\n{count} pairs, MUR_TRAINING_MINUTES={minutes}")
    print("\n| run | time | pairs trained | chosen and postponed | memory, PSS |\n|---|---|---|---|---|")
    for number, run in enumerate(runs, 1):
        trained = [result.pair for result in run.results if result.status == "trained"]
        postponed = sum(result.status == "postponed" for result in run.results)
        print(f"| {number} | {run.seconds:.0f} s | {len(trained)} | {postponed} | {run.peak_bytes / 2**30:.1f} GiB |")
        times.update(trained)
    most, least = max(times.values()), min(times.values()) if len(times) == count else 0
    print(f"\n{len(times)} different pairs were trained, each {least} to {most} times")
    if most - least > 1:
        raise SystemExit("a pair was trained again before every other had its turn")


@contextmanager
def _running_stack(pairs: Sequence[Pair], **settings: str) -> Iterator[tuple[Stack, Airflow]]:
    names = ",".join(pairs)
    settings |= {"MUR_PAIRS": names, "MUR_POOLED_PAIRS": names, "MUR_HISTORY_CANDLES": "3000"}
    with temporary_stack_config(settings) as config:
        lifecycle.up(config)
        stack = lifecycle.open_stack(config)
        with Airflow(config.url("airflow"), ADMIN, stack.secrets.admin_password) as airflow:
            yield stack, airflow


def _last_hours(count: int) -> list[datetime]:
    newest = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return [newest - timedelta(hours=hours) for hours in reversed(range(count))]


def _simulated_pairs(count: int) -> list[Pair]:
    """Return so many pairs of the simulated market, BTC first."""
    return [Pair.parse(name) for name in [*NAMED, *(f"coin{number}_usdt" for number in range(count))]][:count]


def _store_candles(stack: Stack, pairs: Sequence[Pair], as_of: datetime) -> None:
    """Store the history of every pair, so that a run fetches what an hourly one does."""
    settings = settings_of(stack)
    store, exchange = CandleStore.from_settings(settings), ExchangeClient(settings.exchange_url)
    for pair in pairs:
        store.update(
            exchange,
            market=settings.market,
            pair=pair,
            interval=Interval.H1,
            as_of_ms=to_ms(as_of),
            history_candles=settings.training_candles(Interval.H1),
        )


def _first_scheduled(airflow: Airflow) -> str:
    """Unpause the DAG, and return the run of the last hour, which that starts."""
    while not airflow.has_dag(DAG_ID):
        time.sleep(0.2)
    airflow.unpause(DAG_ID)
    while not (scheduled := airflow.active_runs(DAG_ID)):
        time.sleep(0.2)
    return scheduled[0]


def _run(stack: Stack, airflow: Airflow, form: Mapping[str, object]) -> MeasuredRun:
    settings = settings_of(stack)
    before = _written(settings)
    with _peak_memory(stack.config) as peaks:
        run_id = airflow.trigger(DAG_ID, form)
        state = finish(airflow, DAG_ID, run_id)
    if state != "success":
        raise SystemExit(f"{run_id} failed: see Airflow's logs")
    results = _results(settings, run_id)
    written = (_written(settings) - before).tolist()
    run = MeasuredRun(len(results), results, settings.train_workers, _spans(airflow, run_id), max(peaks), written)
    print(f"{run.pairs} pairs: {run.seconds:.0f} s, {run.training_s:.0f} s of it training", flush=True)
    for task_id, (began_s, ended_s) in sorted(run.spans.items(), key=lambda item: item[1]):
        print(f"  {task_id:18} {began_s:5.0f} to {ended_s:3.0f} s", flush=True)
    return run


def finish(airflow: Airflow, dag_id: str, run_id: str) -> str:
    """Wait until the run has ended, and return its state."""
    while (state := airflow.run_state(dag_id, run_id)) not in ENDED:
        time.sleep(0.5)
    return state


def _spans(airflow: Airflow, run_id: str) -> dict[str, tuple[float, float]]:
    times = [
        (task.task_id, task.started_at.timestamp(), task.ended_at.timestamp())
        for task in airflow.task_states(DAG_ID, run_id)
        if task.started_at and task.ended_at
    ]
    first_s = min(began_s for _, began_s, _ in times)
    return {
        task_id: (
            min(began_s for name, began_s, _ in times if name == task_id) - first_s,
            max(ended_s for name, _, ended_s in times if name == task_id) - first_s,
        )
        for task_id, _, _ in times
    }


def _results(settings: Settings, run_id: str) -> list[JobResult]:
    """Return what the Ray jobs of a run left about each of its pairs."""
    store = ObjectStore.from_settings(settings)
    # The submission id holds the run id, with the characters replaced that Ray refuses.
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", run_id)
    jobs = {key.split("/")[1] for key in store.list_keys("jobs/") if readable in key}
    return [result for job in jobs for result in job_results(store, job)]


@contextmanager
def _peak_memory(config: StackConfig) -> Iterator[list[int]]:
    """Collect the memory (PSS) of the whole stack in bytes, every few seconds until the block ends."""
    samples: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while True:
            samples.append(sum(lifecycle.memory_bytes(config).values()))
            if ended.wait(_SAMPLE_EVERY_S):
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _written(settings: Settings) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the rows and objects written and the requests sent to the exchange since the stack was created."""
    with Database.from_settings(settings) as database, database.transaction() as cursor:
        cursor.execute("SELECT sum(tup_inserted) FROM pg_stat_database")
        ((rows,),) = cursor.fetchall()
    usage = httpx.get(f"{settings.exchange_url}/_control/usage").raise_for_status().json()
    return np.array([int(rows), count_objects(settings), usage["requests"]])


def count_objects(settings: Settings) -> int:
    """Return how many objects all buckets of the stack hold."""
    buckets = (settings.candles_bucket, settings.mlflow_bucket)
    stores = [ObjectStore.from_settings(settings.model_copy(update={"candles_bucket": name})) for name in buckets]
    return sum(len(store.list_keys("")) for store in stores)


if __name__ == "__main__":
    main()
