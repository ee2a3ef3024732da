"""Runs of train_pairs for consecutive hours with more pairs than fit into the compute budget of a run.

    .venv/bin/python -m benchmarks.training_budget [--pairs 200] [--minutes 30] [--runs 3]

Prints what each run took and how many pairs it trained, and fails when a pair was trained again before every other had
its turn. The pairs have simulated prices; they are fine-tuned from the shipped foundation and served by the pool. The
runs are those of the last hours, one after the other without a pause.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread

from benchmarks.scaling import DAG_ID, NAMED
from benchmarks.stack import temporary_stack_config
from make_us_rich.core.interval import Interval
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.environment import ADMIN
from make_us_rich.embedded.lifecycle import Stack
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.operations.airflow import ENDED, Airflow

_MEMORY_EVERY_S = 20.0


@dataclass(frozen=True)
class Run:
    state: str
    seconds: float
    promoted: list[str]
    postponed: int  # of the pairs that it had chosen
    peak_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--minutes", default="30", help="MUR_TRAINING_MINUTES")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    names = ",".join([*NAMED, *(f"coin{number}_usdt" for number in range(args.pairs - len(NAMED)))])
    settings = {"MUR_PAIRS": names, "MUR_POOLED_PAIRS": names, "MUR_HISTORY_CANDLES": "3000"}
    with temporary_stack_config(settings | {"MUR_TRAINING_MINUTES": args.minutes}) as config:
        lifecycle.up(config)
        stack = lifecycle.open_stack(config)
        print(f"{args.pairs} pairs, MUR_TRAINING_MINUTES={args.minutes}")
        print("\n| run | state | time | pairs trained | chosen and postponed | peak memory of the stack, PSS |")
        print("|---|---|---|---|---|---|")
        times: Counter[str] = Counter()
        for number, run in enumerate(_runs(stack, args.runs), 1):
            print(
                f"| {number} | {run.state} | {run.seconds:.0f} s | {len(run.promoted)} | {run.postponed} |"
                f" {run.peak_bytes / 2**30:.1f} GiB |",
                flush=True,
            )
            times.update(run.promoted)
        most, least = max(times.values()), min(times.values()) if len(times) == args.pairs else 0
        print(f"\n{len(times)} different pairs were trained, each {least} to {most} times")
        if most - least > 1:
            raise SystemExit("a pair was trained again before every other had its turn")


def _runs(stack: Stack, count: int) -> Iterator[Run]:
    newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    with Airflow(stack.config.url("airflow"), ADMIN, stack.secrets.admin_password) as airflow:
        while not airflow.has_dag(DAG_ID):
            time.sleep(0.2)
        airflow.unpause(DAG_ID)
        while not (scheduled := airflow.active_runs(DAG_ID)):  # unpausing starts the run of the last hour
            time.sleep(0.2)
        airflow.request("PATCH", f"/api/v2/dags/{DAG_ID}/dagRuns/{scheduled[0]}", {"state": "failed"})
        for hours_ago in reversed(range(count)):
            as_of = datetime.fromtimestamp((newest_ms - hours_ago * Interval.H1.ms) / 1000, UTC)
            run_id = airflow.trigger(DAG_ID, {"as_of": as_of.isoformat()})
            with _peak_memory(stack.config) as peaks:
                began = time.monotonic()
                while (state := airflow.run_state(DAG_ID, run_id)) not in ENDED:
                    time.sleep(0.5)
                seconds = time.monotonic() - began
            promotions = [task for task in airflow.task_states(DAG_ID, run_id) if task.task_id == "promote"]
            yield Run(
                state,
                seconds,
                [task.label for task in promotions if task.state == "success"],
                sum(task.state == "skipped" for task in promotions),
                max(peaks),
            )


@contextmanager
def _peak_memory(config: StackConfig) -> Iterator[list[int]]:
    """Measure the stack's memory from time to time until the block ends; gives the list of the measurements."""
    found, over = [sum(lifecycle.memory_bytes(config).values())], Event()

    def measure() -> None:
        while not over.wait(_MEMORY_EVERY_S):
            found.append(sum(lifecycle.memory_bytes(config).values()))

    thread = Thread(target=measure)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
