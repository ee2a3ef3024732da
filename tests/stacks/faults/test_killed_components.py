"""Kills each component with SIGKILL during a training run; docs/explanation/orchestration.md has the outcomes."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count

import psutil
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.registry.client import TAG_AS_OF_MS
from tests.support.embedded_stack import EmbeddedStack
from tests.support.polling import polling
from tests.support.registry import champion_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

PAIRS = ("btc_usdt", "chz_usdt", "eth_usdt")
DAG = "train_pairs"
_RUN_S = 420.0
_hours = count(20, -1)  # each run is newer than the one before, so that each can promote


class TrainingRun:
    """One run of train_pairs, as of an hour of its own."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self.stack = stack
        self.as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000) - next(_hours) * HOUR_MS
        as_of = datetime.fromtimestamp(self.as_of_ms / 1000, UTC)
        self.run_id = stack.airflow.trigger(DAG, {"as_of": as_of.isoformat()})
        self.began = time.monotonic()

    def wait_for_task(self, task_id: str, state: str, try_number: int = 1) -> None:
        def reached() -> bool:
            tasks = self.stack.airflow.task_states(DAG, self.run_id)
            found = [(task.state, task.try_number) for task in tasks if task.task_id == task_id]
            return (state, try_number) in found

        wait_until(reached, 120, f"{task_id} is not {state}")

    def wait_for_training(self, pair: str) -> None:
        """Wait until a worker trains this pair."""
        wait_until(lambda: pair in self._rows(), 120, f"{pair} is not trained")

    def _rows(self) -> set[str]:
        (job,) = [job["submission_id"] for job in self.jobs() if job["status"] == "RUNNING"]
        keys = self.stack.bucket().list_keys(f"jobs/{job}/")
        return {key.rpartition("/")[2].removesuffix(".json") for key in keys}

    def jobs(self) -> list[dict[str, str]]:
        """Return the Ray jobs of this run."""
        return [job for job in self.stack.jobs() if str(self.as_of_ms) in job["entrypoint"]]

    def end(self) -> str:
        state = self.stack.wait_for_run(DAG, self.run_id, _RUN_S)
        print(f"{state} after {time.monotonic() - self.began:.0f} s")
        return state

    def alerts(self) -> list[str]:
        return [embed["description"] for embed in self.stack.discord_embeds_of(self.run_id)]

    def assert_recovered_or_reported(self) -> None:
        """On a busy machine a component may be down for longer than the retries: then Discord has the reason."""
        if self.end() != "success":
            assert self.alerts(), "the run failed without an alert"
        self.check_registry(fewest=0)

    def check_registry(self, fewest: int = 1) -> None:
        """Assert that each pair has at most one version of this run, that it is complete, and that champions are."""
        with self.stack.registry() as registry:
            for pair in PAIRS:
                name = Series(Pair.parse(pair), Interval.H1).name
                made = registry.versions_tagged(name, TAG_AS_OF_MS, str(self.as_of_ms))
                assert fewest <= len(made) <= 1, f"{pair}: {len(made)} versions as of one time"
                for version in made:
                    assert registry.download(version)
                assert registry.download(champion_of(registry, name))


def test_a_run_survives_the_driver_the_triggerer_with_the_scheduler_and_the_workers(stack: EmbeddedStack) -> None:
    """One run loses them one after the other: the driver of its first job, and the others during its second."""
    run = TrainingRun(stack)
    run.wait_for_task("train", "deferred")
    wait_until(lambda: stack.kill_processes("-m ray_jobs.train_pairs"), 120, "the driver does not run")
    run.wait_for_task("train", "deferred", try_number=2)

    stack.kill("airflow-triggerer")
    stack.kill("airflow-scheduler")

    run.wait_for_training("eth_usdt")
    assert stack.kill_processes("ray::RayTrainWorker") > 0

    assert run.end() == "success"
    assert sorted(job["status"] for job in run.jobs()) == ["FAILED", "SUCCEEDED"], "a third job was started"
    assert run.alerts() == []
    run.check_registry()


def test_a_run_survives_or_reports_the_ray_head(stack: EmbeddedStack) -> None:
    run = TrainingRun(stack)
    run.wait_for_training("btc_usdt")
    forecasts = f"{stack.config.url('api')}/v1/forecasts/btc_usdt"
    with polling(forecasts, stack.secrets.service_token) as answers:
        # its workers at the same moment, so that nothing stops HAProxy, which holds the API's port
        workers = stack.processes("ray::")
        stack.kill("ray")
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()

        run.assert_recovered_or_reported()
    print(answers.counts)
    answers.check()
    assert 200 in answers.statuses


def test_a_run_survives_or_reports_all_stores_at_once(stack: EmbeddedStack) -> None:
    run = TrainingRun(stack)
    run.wait_for_training("btc_usdt")
    for store in ("s3", "mlflow", "postgres"):
        stack.kill(store)

    run.assert_recovered_or_reported()
