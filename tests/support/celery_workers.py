"""Runs Airflow's scheduler with the CeleryExecutor and workers of their own, beside an embedded stack."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import psutil
from redis import Redis, RedisError

from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.supervisor import Supervisor
from tests.support.embedded_stack import EmbeddedStack
from tests.support.processes import PROJECT_ROOT, free_port, running
from tests.support.waiting import wait_until

_NAME = "TEST_WORKER_NAME"
_SCHEDULER = "airflow-scheduler"
_AIRFLOW = str(Path(sys.executable).parent / "airflow")


def worker_name() -> str:
    """Return what Airflow stores as the host of a task instance: all workers of a test are on one host."""
    return os.environ.get(_NAME, "no worker")


@dataclass(frozen=True)
class Workers:
    processes: Mapping[str, Popen[bytes]]

    def kill(self, name: str) -> None:
        """Kill a worker and the tasks that it runs with SIGKILL, as a lost host does."""
        worker = psutil.Process(self.processes[name].pid)
        for process in [worker, *worker.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def celery_workers(
    stack: EmbeddedStack, names: Sequence[str], settings: Mapping[str, str], logs: Path
) -> Iterator[Workers]:
    """Replace the stack's scheduler by one with the CeleryExecutor, and run these workers, until the block ends."""
    port = free_port()
    redis_command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(logs)]
    environment = {
        **lifecycle.open_stack(stack.config).environment,
        **{key: value for key, value in stack.environment.items() if key.startswith(("MUR_", "AIRFLOW__"))},
        "PYTHONPATH": str(PROJECT_ROOT),
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{__name__}.worker_name",
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{port}/0",
        **settings,
    }
    supervisor = Supervisor(stack.config)
    with Redis(port=port) as broker, ExitStack() as running_programs:
        start = running_programs.enter_context
        start(running(redis_command, lambda: _answers(broker), logs / "redis.log"))
        supervisor.stop(_SCHEDULER)
        running_programs.callback(supervisor.start, _SCHEDULER)
        workers, ready = {}, []
        for name in names:
            log = logs / f"{name}.log"
            command = [_AIRFLOW, "celery", "worker", "-H", f"{name}@local", "-c", "1", "--skip-serve-logs"]
            workers[name] = start(running(command, _at_once, log, environment | {_NAME: name}))
            ready.append(_logs(log, " ready."))
        log = logs / "scheduler.log"
        start(running([_AIRFLOW, "scheduler", "--skip-serve-logs"], _at_once, log, environment))
        ready.append(_logs(log, "Starting the scheduler"))
        wait_until(lambda: all(is_ready() for is_ready in ready), 180, f"not every program of {logs} is ready")
        yield Workers(workers)


def _at_once() -> bool:
    """The programs start at the same time; `celery_workers` waits for them."""
    return True


def _answers(broker: Redis) -> bool:
    with suppress(RedisError):
        return bool(broker.ping())
    return False


def _logs(log: Path, words: str) -> Callable[[], bool]:
    return lambda: words in log.read_text(errors="replace")
