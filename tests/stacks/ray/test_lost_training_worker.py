"""Training workers that are killed in the middle of a job, on a Ray cluster, with a real S3, MLflow and exchange."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.documents import JobResult
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.pipeline.ray_jobs import job_results
from make_us_rich.registry.client import TAG_AS_OF_MS, Registry
from tests.support.processes import running
from tests.support.ray_cluster import driver_environment, fixed_cluster
from tests.support.servers import S3_KEYS, exchange_server, mlflow_server, s3_server
from tests.support.stored_candles import store_candles
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

CHILIZ, ETHER = Pair("chz", "usdt"), Pair("eth", "usdt")
PAIRS = (BITCOIN, CHILIZ, ETHER)
HISTORY = 3000


@dataclass(frozen=True)
class TrainingCluster:
    """A Ray cluster with two CPUs; `as_of_ms` is the newest close of the stored candles."""

    address: str
    settings: Settings
    as_of_ms: int

    def command(self, job: str, pairs: tuple[Pair, ...], as_of_ms: int) -> list[str]:
        command = [sys.executable, "-m", "ray_jobs.train_pairs", "--pairs", ",".join(pairs)]
        return [*command, "--submission-id", job, "--as-of-ms", str(as_of_ms)]

    def results(self, job: str) -> dict[Pair, JobResult]:
        results = job_results(ObjectStore.from_settings(self.settings), job)
        return {result.pair: result for result in results}

    def workers(self) -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter()
            if process.name().startswith("ray::RayTrainWo")
            and process.environ().get("MUR_S3_ENDPOINT_URL") == self.settings.s3_endpoint_url
        ]


@pytest.fixture(scope="module")
def cluster() -> Iterator[TrainingCluster]:
    with ExitStack() as contexts:
        environment = {
            "MUR_MARKET": "simulated",
            "MUR_HISTORY_CANDLES": str(HISTORY),
            "MUR_EXCHANGE_URL": contexts.enter_context(exchange_server()),
            "MUR_MLFLOW_URL": contexts.enter_context(mlflow_server()),
            "MUR_S3_ENDPOINT_URL": contexts.enter_context(s3_server()),
            "MUR_S3_ACCESS_KEY": S3_KEYS[0],
            "MUR_S3_SECRET_KEY": S3_KEYS[1],
        }
        patch = contexts.enter_context(pytest.MonkeyPatch.context())
        for name, value in environment.items():
            patch.setenv(name, value)  # the workers read them
        settings = Settings()
        assert settings.s3_secret_key == SecretStr(S3_KEYS[1])
        address = contexts.enter_context(fixed_cluster(cpus=2))
        yield TrainingCluster(address, settings, _store_candles(settings))


def _store_candles(settings: Settings) -> int:
    newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    ObjectStore.from_settings(settings).ensure_bucket()
    store_candles(settings, PAIRS, newest_ms, HISTORY)
    return newest_ms


def test_a_pair_that_two_workers_share_is_trained_although_one_is_killed(
    cluster: TrainingCluster, tmp_path: Path
) -> None:
    """The other one gets an error from Gloo, which is no error of the pair."""
    log, job = tmp_path / "job.log", "shared"
    command = cluster.command(job, (BITCOIN,), cluster.as_of_ms - 30 * HOUR_MS)
    # a network trained from scratch, which leaves the time for a kill
    environment = driver_environment(cluster.address) | {"MUR_ARCHITECTURE": "linear"}

    def trains() -> bool:
        return f"{BITCOIN}: train\n" in log.read_text()

    with running(command, trains, log, environment, timeout_s=240):
        (rank_0,) = re.findall(rf"pid=(\d+)\)\S* {BITCOIN}: train\n", log.read_text())
        (other,) = {process.pid for process in cluster.workers()} - {int(rank_0)}  # rank 0 alone prints the steps
        os.kill(other, signal.SIGSTOP)  # so that the printing one waits for it
        time.sleep(1)
        assert cluster.results(job)[BITCOIN].status == "begun", "it was trained before the kill"
        os.kill(other, signal.SIGKILL)
        wait_until(lambda: cluster.results(job)[BITCOIN].status != "begun", 240, "the pair is not trained")

    result = cluster.results(job)[BITCOIN]
    assert result.status == "trained", result.reason


def test_a_job_whose_workers_are_all_killed_registers_each_pair_once(cluster: TrainingCluster, tmp_path: Path) -> None:
    """Each worker trains pairs of its own; the pairs that had ended are not trained again."""
    log, job, as_of_ms = tmp_path / "job.log", "killed", cluster.as_of_ms - 20 * HOUR_MS
    command = cluster.command(job, PAIRS, as_of_ms)

    def trains_the_last() -> bool:
        return f"{ETHER}: train\n" in log.read_text()

    with running(command, trains_the_last, log, driver_environment(cluster.address), timeout_s=240) as driver:
        killed = cluster.workers()
        assert len(killed) == 2
        for worker in killed:
            worker.kill()
        assert driver.wait(timeout=240) == 0, log.read_text()

    assert {pair: result.status for pair, result in cluster.results(job).items()} == dict.fromkeys(PAIRS, "trained")
    assert f"{BITCOIN}: ended before a worker was lost" in log.read_text()
    with Registry(cluster.settings) as registry:
        for pair in PAIRS:
            (version,) = registry.versions_tagged(f"{pair}_1h", TAG_AS_OF_MS, str(as_of_ms))
            assert registry.download(version)
