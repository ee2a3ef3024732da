"""kill -9 of every component during a run, on a real stack.

docs/explanation/orchestration.md has the table of what happened.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count

import psutil
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.registry.client import TAG_AS_OF_MS, model_name
from tests.support.embedded_stack import EmbeddedStack
from tests.support.polling import polling
from tests.support.registry import champion_of

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:unclosed <socket.socket fd=[0-9]+, family=1:ResourceWarning"),  # supervisor's
]

PAIRS = ("btc_usdt", "chz_usdt", "eth_usdt")
DAG = "train_pairs"
_RUN_S = 420.0
_hours = count(20, -1)  # each run is newer than the one before, so that each may promote


class TrainingRun:
    """One run of train_pairs as of an hour of its own."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self.stack = stack
        self.as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000) - next(_hours) * HOUR_MS
        as_of = datetime.fromtimestamp(self.as_of_ms / 1000, UTC)
        self.run_id = stack.airflow.trigger(DAG, {"as_of": as_of.isoformat()})
        self.began = time.monotonic()

    def until_task(self, task_id: str, state: str) -> None:
        def reached() -> bool:
            tasks = self.stack.airflow.task_states(DAG, self.run_id)
            return any(task.task_id == task_id and task.state == state for task in tasks)

        self.stack.until(reached, 120, f"{task_id} is not {state}")

    def until_begun(self, pair: str) -> None:
        """Until a worker trains this pair."""
        self.stack.until(lambda: pair in self._rows(), 120, f"{pair} is not trained")

    def _rows(self) -> set[str]:
        (job,) = [job["submission_id"] for job in self.jobs() if job["status"] == "RUNNING"]
        keys = self.stack.bucket().list_keys(f"jobs/{job}/")
        return {key.rpartition("/")[2].removesuffix(".json") for key in keys}

    def jobs(self) -> list[dict[str, str]]:
        """Those of this run, by Ray's own account."""
        return [job for job in self.stack.jobs() if str(self.as_of_ms) in job["entrypoint"]]

    def end(self) -> str:
        state = self.stack.ended(DAG, self.run_id, _RUN_S)
        print(f"{state} after {time.monotonic() - self.began:.0f} s")
        return state

    def told(self) -> list[str]:
        return [embed["description"] for embed in self.stack.discord_embeds_of(self.run_id)]

    def recovers_or_tells(self) -> None:
        """On a busy machine a component may stay away for longer than the retries: then Discord has the reason."""
        if self.end() != "success":
            assert self.told(), "the run failed, and nobody was told"
        self.check_registry(fewest=0)

    def check_registry(self, fewest: int = 1) -> None:
        """One version a pair as of this run, none of them half, and each champion's file is there."""
        with self.stack.registry() as registry:
            for pair in PAIRS:
                name = model_name(Pair.parse(pair), Interval.H1)
                made = registry.versions_tagged(name, TAG_AS_OF_MS, str(self.as_of_ms))
                assert fewest <= len(made) <= 1, f"{pair}: {len(made)} versions as of one time"
                for version in made:
                    assert registry.download(version)
                assert registry.download(champion_of(registry, name))


def test_the_triggerer_and_the_scheduler(stack: EmbeddedStack) -> None:
    run = TrainingRun(stack)
    run.until_task("train", "deferred")
    stack.kill("airflow-triggerer")
    stack.kill("airflow-scheduler")

    assert run.end() == "success"
    assert len(run.jobs()) == 1, "a second job was started"
    assert run.told() == []
    run.check_registry()


def test_a_ray_worker(stack: EmbeddedStack) -> None:
    run = TrainingRun(stack)
    run.until_begun("eth_usdt")
    assert stack.kill_processes("ray::RayTrainWorker") > 0

    assert run.end() == "success"
    assert len(run.jobs()) == 1
    run.check_registry()


def test_the_driver_of_the_ray_job(stack: EmbeddedStack) -> None:
    run = TrainingRun(stack)
    run.until_task("train", "deferred")
    stack.until(lambda: stack.kill_processes("-m ray_jobs.train_pairs"), 120, "the driver does not run")

    assert run.end() == "success"
    assert sorted(job["status"] for job in run.jobs()) == ["FAILED", "SUCCEEDED"]
    run.check_registry()


def test_the_ray_head(stack: EmbeddedStack) -> None:
    run = TrainingRun(stack)
    run.until_begun("btc_usdt")
    forecasts = f"{stack.config.url('api')}/v1/forecasts/btc_usdt"
    with polling(forecasts, stack.secrets.service_token) as answers:
        # its workers at the same moment: so nobody ends HAProxy, which holds the API's port
        workers = stack.processes("ray::")
        stack.kill("ray")
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()

        run.recovers_or_tells()
    print(answers.counts)
    answers.check()
    assert 200 in answers.statuses


def test_every_store_at_once(stack: EmbeddedStack) -> None:
    run = TrainingRun(stack)
    run.until_begun("btc_usdt")
    for store in ("s3", "mlflow", "postgres"):
        stack.kill(store)

    run.recovers_or_tells()
