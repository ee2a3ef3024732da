"""Runs of train_pairs with more and more pairs: what each costs, and where its time goes.

    .venv/bin/python -m benchmarks.scaling [--pairs 3,30,100,300]

Prints the tables of docs/reference/sizing.md. The pairs have simulated prices and their candles of earlier hours, are
fine-tuned from the shipped foundation and served by the pool. Overhead is the time of a run less the time of training
on its workers. An extra first run of the fewest pairs starts what a new stack has not started yet.
"""

from __future__ import annotations

import argparse
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np

from benchmarks.stack import settings_of, temporary_stack_config
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
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.pipeline.airflow import ENDED, Airflow
from make_us_rich.pipeline.ray_jobs import job_results

DAG_ID = "train_pairs"
NAMED = ("btc_usdt", "eth_usdt", "chz_usdt")
_SAMPLE_EVERY_S = 10.0


@dataclass(frozen=True)
class Totals:
    """What the stack has written and asked for since it was created."""

    rows: int
    objects: int
    requests: int

    @classmethod
    def read(cls, stack: Stack) -> Totals:
        settings = settings_of(stack)
        with Database.from_settings(settings) as database, database.transaction() as cursor:
            cursor.execute("SELECT sum(tup_inserted) FROM pg_stat_database")
            ((rows,),) = cursor.fetchall()
        objects = count_objects(settings)
        usage = httpx.get(f"{settings.exchange_url}/_control/usage").raise_for_status().json()
        return cls(int(rows), objects, usage["requests"])

    def __sub__(self, earlier: Totals) -> Totals:
        return Totals(*(getattr(self, each.name) - getattr(earlier, each.name) for each in fields(self)))


@dataclass(frozen=True)
class Span:
    """When the first instance of a task began and the last one ended, in seconds since the run's first task."""

    began_s: float
    ended_s: float
    instances: int

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s


@dataclass(frozen=True)
class MeasuredRun:
    pairs: int
    seconds: float
    training_s: float  # of the pairs, divided by the workers
    spans: Mapping[str, Span]
    peak_bytes: int
    written: Totals

    @property
    def overhead_s(self) -> float:
        return self.seconds - self.training_s

    @property
    def ray_s(self) -> float:
        """What the Ray jobs took beyond training: their start, above all."""
        return self.spans["train"].seconds - self.training_s

    @property
    def airflow_s(self) -> float:
        """The rest: every other task, and the scheduler's time between them."""
        return self.overhead_s - self.ray_s - self.spans["refresh_serving"].seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default="3,30,100,300", help="pairs of each run, in growing order")
    parser.add_argument("--pairs-per-task", type=int, help="pairs that share a task; default: as the DAG decides")
    arguments = parser.parse_args()
    counts = [int(text) for text in arguments.pairs.split(",")]
    pairs = simulated_pairs(max(counts))
    names = ",".join(pairs)
    form = {"pairs_per_task": arguments.pairs_per_task} if arguments.pairs_per_task else {}
    settings = {"MUR_PAIRS": names, "MUR_POOLED_PAIRS": names, "MUR_HISTORY_CANDLES": "3000"}
    with temporary_stack_config(settings) as config:
        lifecycle.up(config)
        runs = list(_runs(lifecycle.open_stack(config), pairs, [counts[0], *counts], form))[1:]
    _print_runs(runs)
    _print_constants(runs)


def _runs(
    stack: Stack, pairs: Sequence[Pair], counts: Sequence[int], form: Mapping[str, object]
) -> Iterator[MeasuredRun]:
    """Run the DAG for the first pairs, for more pairs each time, as of one hour after the other."""
    database = Database.from_settings(settings_of(stack))
    for pair in pairs:
        pairs_table.put(database, pair, plan="off")
    newest = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    _store_candles(stack, pairs, newest - timedelta(hours=len(counts)))
    with Airflow(stack.config.url("airflow"), ADMIN, stack.secrets.admin_password) as airflow:
        finish(airflow, DAG_ID, first_scheduled(airflow))  # it finds no active pair and fails
        for place, count in enumerate(counts):
            for pair in pairs[:count]:
                pairs_table.put(database, pair, plan="pooled")
            as_of = newest - timedelta(hours=len(counts) - 1 - place)
            yield _run(stack, airflow, {"pairs": pairs[:count], "as_of": as_of.isoformat(), **form})


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


def _run(stack: Stack, airflow: Airflow, form: Mapping[str, object]) -> MeasuredRun:
    before = Totals.read(stack)
    with peak_memory(stack.config) as peak:
        run_id = airflow.trigger(DAG_ID, form)
        state = finish(airflow, DAG_ID, run_id)
    if state != "success":
        raise SystemExit(f"{run_id} failed: see Airflow's logs")
    pairs = form["pairs"]
    assert isinstance(pairs, list)
    spans = _spans(airflow, run_id)
    run = MeasuredRun(
        pairs=len(pairs),
        seconds=max(span.ended_s for span in spans.values()),  # without waiting for the scheduled run of a new hour
        training_s=sum(result.seconds for result in results_of(stack, run_id)) / settings_of(stack).train_workers,
        spans=spans,
        peak_bytes=max(peak),
        written=Totals.read(stack) - before,
    )
    print(f"{run.pairs} pairs: {run.seconds:.0f} s, {run.training_s:.0f} s of it training", flush=True)
    for task_id, span in sorted(spans.items(), key=lambda item: item[1].began_s):
        print(f"  {task_id:18} {span.began_s:5.0f} to {span.ended_s:3.0f} s, {span.instances:3} times", flush=True)
    return run


def simulated_pairs(count: int) -> list[Pair]:
    """Return so many pairs of the simulated market, BTC first."""
    return [Pair.parse(name) for name in [*NAMED, *(f"coin{number}_usdt" for number in range(count))]][:count]


def first_scheduled(airflow: Airflow) -> str:
    """Unpause the DAG, and return the run of the last hour, which that starts."""
    while not airflow.has_dag(DAG_ID):
        time.sleep(0.2)
    airflow.unpause(DAG_ID)
    while not (scheduled := airflow.active_runs(DAG_ID)):
        time.sleep(0.2)
    return scheduled[0]


def finish(airflow: Airflow, dag_id: str, run_id: str) -> str:
    """Wait until the run has ended, and return its state."""
    while (state := airflow.run_state(dag_id, run_id)) not in ENDED:
        time.sleep(0.5)
    return state


def _spans(airflow: Airflow, run_id: str) -> dict[str, Span]:
    times: dict[str, list[tuple[datetime, datetime]]] = {}
    for task in airflow.task_states(DAG_ID, run_id):
        if task.started_at and task.ended_at:
            times.setdefault(task.task_id, []).append((task.started_at, task.ended_at))
    first = min(start for each in times.values() for start, _ in each)
    return {
        task_id: Span(
            (min(start for start, _ in each) - first).total_seconds(),
            (max(end for _, end in each) - first).total_seconds(),
            len(each),
        )
        for task_id, each in times.items()
    }


def results_of(stack: Stack, run_id: str) -> list[JobResult]:
    """Return what the Ray jobs of a run left about each of its pairs."""
    store = ObjectStore.from_settings(settings_of(stack))
    # The submission id holds the run id, with the characters replaced that Ray refuses.
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", run_id)
    jobs = {key.split("/")[1] for key in store.list_keys("jobs/") if readable in key}
    return [result for job in jobs for result in job_results(store, job)]


@contextmanager
def peak_memory(config: StackConfig) -> Iterator[list[int]]:
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


def count_objects(settings: Settings) -> int:
    """Return how many objects all buckets of the stack hold."""
    buckets = (settings.candles_bucket, settings.mlflow_bucket)
    stores = [ObjectStore.from_settings(settings.model_copy(update={"candles_bucket": name})) for name in buckets]
    return sum(len(store.list_keys("")) for store in stores)


def _print_runs(runs: Sequence[MeasuredRun]) -> None:
    columns = ("pairs", "run", "training", "Ray beyond training", "Airflow", "serving", "overhead a pair")
    print(f"\n| {' | '.join(columns)} | memory, PSS | rows written | objects written | requests to the exchange |")
    print("|---" * (len(columns) + 4) + "|")
    for run in runs:
        print(
            f"| {run.pairs} | {run.seconds:.0f} s | {run.training_s:.0f} s | {run.ray_s:.0f} s | {run.airflow_s:.0f} s"
            f" | {run.spans['refresh_serving'].seconds:.0f} s | {run.overhead_s / run.pairs:.2f} s"
            f" | {run.peak_bytes / 2**30:.1f} GiB | {run.written.rows:,} | {run.written.objects:,}"
            f" | {run.written.requests:,} |"
        )


def _print_constants(runs: Sequence[MeasuredRun]) -> None:
    """Print the straight line through the runs, by least squares of the relative error, and how far off it is."""
    pairs, seconds = np.array([run.pairs for run in runs]), np.array([run.seconds for run in runs])
    design = np.stack([np.ones(len(runs)), pairs], axis=1) / seconds[:, None]
    (fixed_s, each_s), *_ = np.linalg.lstsq(design, np.ones(len(runs)))
    worst = max(abs((fixed_s + each_s * pairs) / seconds - 1))
    print(f"\nrun of n pairs: {fixed_s:.0f} s + {each_s:.2f} s * n, within {worst:.0%} of each run")


if __name__ == "__main__":
    main()
