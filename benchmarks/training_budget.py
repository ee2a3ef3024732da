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
from dataclasses import dataclass

from benchmarks.scaling import DAG_ID, finish, first_scheduled, peak_memory, results_of, simulated_pairs
from benchmarks.stack import temporary_stack_config
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.times import current_ms, from_ms
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.environment import ADMIN
from make_us_rich.embedded.lifecycle import Stack
from make_us_rich.pipeline.airflow import Airflow


@dataclass(frozen=True)
class Run:
    state: str
    seconds: float
    trained: list[Pair]
    postponed: int  # of the pairs that it had chosen
    peak_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--minutes", default="30", help="MUR_TRAINING_MINUTES")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    names = ",".join(simulated_pairs(args.pairs))
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
                f"| {number} | {run.state} | {run.seconds:.0f} s | {len(run.trained)} | {run.postponed} |"
                f" {run.peak_bytes / 2**30:.1f} GiB |",
                flush=True,
            )
            times.update(run.trained)
        most, least = max(times.values()), min(times.values()) if len(times) == args.pairs else 0
        print(f"\n{len(times)} different pairs were trained, each {least} to {most} times")
        if most - least > 1:
            raise SystemExit("a pair was trained again before every other had its turn")


def _runs(stack: Stack, count: int) -> Iterator[Run]:
    newest_ms = Interval.H1.last_close_ms(current_ms())
    with Airflow(stack.config.url("airflow"), ADMIN, stack.secrets.admin_password) as airflow:
        airflow.request("PATCH", f"/api/v2/dags/{DAG_ID}/dagRuns/{first_scheduled(airflow)}", {"state": "failed"})
        for hours_ago in reversed(range(count)):
            as_of = from_ms(newest_ms - hours_ago * Interval.H1.ms)
            run_id = airflow.trigger(DAG_ID, {"as_of": as_of.isoformat()})
            with peak_memory(stack.config) as peaks:
                began = time.monotonic()
                state = finish(airflow, DAG_ID, run_id)
                seconds = time.monotonic() - began
            results = results_of(stack, run_id)
            yield Run(
                state,
                seconds,
                [result.pair for result in results if result.status == "trained"],
                sum(result.status == "postponed" for result in results),
                max(peaks),
            )


if __name__ == "__main__":
    main()
