"""How long the chain takes and what it weighs, on this machine.

    .venv/bin/python -m benchmarks.stack

Starts the embedded stack in a folder of its own (first start, then a warm one), runs the hourly DAG for three pairs on
the simulated market, and prints a table for docs/reference/performance.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from tests.support.folders import traversable_folder

PAIRS = ("btc_usdt", "eth_usdt", "chz_usdt")
DAG_ID = "train_pairs"


def main() -> None:
    with traversable_folder() as home:
        os.environ |= {
            "MUR_STACK_HOME": str(home),
            "MUR_PORT_BASE": "14000",
            "MUR_PAIRS": ",".join(PAIRS),
            "MUR_DAGS_PAUSED": "true",
        }
        _measure()


def _measure() -> None:
    from make_us_rich.embedded import lifecycle
    from make_us_rich.embedded.environment import ADMIN
    from make_us_rich.embedded.stack_config import new_stack_config
    from make_us_rich.operations.airflow import ENDED, Airflow

    config = new_stack_config("simulated")
    first_start_s = _seconds(lambda: lifecycle.up(config))
    down_s = _seconds(lambda: lifecycle.down(config))
    warm_start_s = _seconds(lambda: lifecycle.up(config))
    stack = lifecycle.open_stack(config)
    try:
        with Airflow(config.url("airflow"), ADMIN, stack.secrets.admin_password) as airflow:
            airflow.unpause(DAG_ID)
            while not (active := airflow.active_runs(DAG_ID)):
                time.sleep(0.2)
            began = time.monotonic()
            while (state := airflow.run_state(DAG_ID, active[0])) not in ENDED:
                time.sleep(0.2)
            run_s = time.monotonic() - began
        memory = lifecycle.memory_bytes(config)
    finally:
        lifecycle.down(config)
    total = sum(memory.values()) / 2**30
    rows = [
        ("stack ready, first start", f"{first_start_s:.0f} s", ""),
        ("stack ready, warm", f"{warm_start_s:.0f} s", "90 s"),
        ("stack down", f"{down_s:.0f} s", ""),
        (f"DAG run of three pairs ({state})", f"{run_s:.0f} s", "120 s"),
        ("memory of the stack, PSS", f"{total:.1f} GiB", "6 GiB"),
    ]
    print("\n| what | measured | goal |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print("\n| component | PSS |\n|---|---|")
    for name, size in sorted(memory.items(), key=lambda item: -item[1]):
        print(f"| {name} | {size / 2**20:,.0f} MiB |")


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
