"""Start of the embedded stack, its memory, and the time in which Airflow reads the DAGs.

    .venv/bin/python -m benchmarks.orchestration

Prints the tables of docs/reference/performance.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.stack import print_table, temporary_stack_config
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.stack_config import PROJECT_ROOT, StackConfig

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


def main() -> None:
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


if __name__ == "__main__":
    main()
