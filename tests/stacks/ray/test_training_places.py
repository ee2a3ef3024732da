"""Where training jobs run, on real Ray clusters of several nodes whose GPUs are only declared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.exchange.simulated import simulate
from make_us_rich.forecasting import networks
from make_us_rich.forecasting.training import ProcessGroup
from make_us_rich.market.recordings import write_klines
from tests.support.ray_cluster import autoscaling_cluster, fixed_cluster, run_driver
from tests.unit.forecasting.test_process_group import assert_alike, weights_of

pytestmark = pytest.mark.timeout(400)

# a training job whose loop prints what its worker was given
_JOB = """
import json, ray
import numpy as np
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN
from ray_jobs.job import TrainingJob, process_group, run_on_workers, training_device
from tests.unit.forecasting.test_process_group import weights_of

def loop(job):
    group = process_group()
    found = {"rank": group.rank, "size": group.world_size, "gpus": len(ray.get_gpu_ids())}
    print("WORKER", json.dumps(found | {"device": training_device()}), flush=True)
    THEN

run_on_workers(loop, TrainingJob((BITCOIN,), Interval.H1, 0, "by-hand"), MOST)
"""
# one network, trained by all workers through Ray Train's prepare_model, in batches that do not share out evenly
_TRAIN_TOGETHER = 'np.savez(f"FOLDER/{group.rank}.npz", **weights_of(group))'


def _workers(address: str, most: int, then: str = "", **environment: str) -> list[dict[str, Any]]:
    lines = run_driver(address, _JOB.replace("MOST", str(most)).replace("THEN", then), **environment)
    # each node of a cluster on one machine forwards the same log files, so a line may appear twice
    found = {line.partition("WORKER ")[2] for line in lines if "WORKER " in line}
    assert found, "\n".join(lines)
    return sorted(map(json.loads, found), key=lambda worker: worker["rank"])


_BACKTEST = """
import sys
from ray_jobs import backtest
sys.argv = ["backtest", "--candles", "FOLDER", "--from", "2026-01-05", "--to", "2026-01-12", "--every", "1w"]
backtest.main()
"""


@pytest.fixture(scope="module")
def refused_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Future[list[str]]]]:
    """Run a training job and a backtest where no node can hold them; they wait for a minute, beside other tests."""
    folder = tmp_path_factory.mktemp("candles")
    candles = simulate(int(datetime(2026, 1, 12, tzinfo=UTC).timestamp() * 1000))["BTCUSDT"]
    write_klines(folder / "BTCUSDT.parquet", candles)
    jobs = _JOB.replace("MOST", "2").replace("THEN", ""), _BACKTEST.replace("FOLDER", str(folder))
    with autoscaling_cluster({"gpu": {"CPU": 0, "GPU": 1, "most": 1}}) as address, ThreadPoolExecutor() as threads:
        yield [threads.submit(run_driver, address, job) for job in jobs]


@pytest.fixture(scope="module")
def growing() -> Iterator[str]:
    """Start a cluster as on Kubernetes: a head without CPUs, and worker groups that are at zero until a job starts."""
    groups = {"cpu": {"CPU": 2, "most": 1}, "gpu": {"CPU": 2, "GPU": 1, "most": 1}}
    with autoscaling_cluster(groups, idle_s=10) as address:
        yield address


@pytest.fixture(scope="module")
def one_node() -> Iterator[str]:
    with fixed_cluster(cpus=3, gpus=2) as address:
        yield address


@pytest.mark.usefixtures("refused_jobs")
def test_a_job_starts_the_gpu_group_and_gives_its_one_gpu_to_one_worker(growing: str) -> None:
    workers = _workers(growing, most=2)

    assert [(worker["size"], worker["gpus"]) for worker in workers] == [(1, 1)]


_NODES = """
import time, ray
ray.init(log_to_driver=False)
until = time.monotonic() + 240
while len(alive := [node for node in ray.nodes() if node["Alive"]]) > 1 and time.monotonic() < until:
    time.sleep(1)
print("NODES", len(alive), alive[0]["Resources"].get("CPU", 0))
"""


def test_the_nodes_of_a_finished_job_are_ended(growing: str) -> None:
    lines = run_driver(growing, _NODES)

    assert "NODES 1 0" in lines, "\n".join(lines)  # the head


def test_two_gpus_go_to_two_workers_however_small_their_shares(one_node: str) -> None:
    workers = _workers(one_node, most=4, MUR_GPUS_PER_WORKER="0.5")

    assert [(worker["size"], worker["gpus"]) for worker in workers] == [(2, 1)] * 2


def test_without_gpus_a_job_has_as_many_workers_as_cpus_and_they_learn_what_a_single_process_does(
    one_node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share of zero is no request for a GPU. The workers train one network together."""
    together = _TRAIN_TOGETHER.replace("FOLDER", str(tmp_path))
    workers = _workers(one_node, most=4, then=together, MUR_GPUS_PER_WORKER="0")

    assert [(worker["size"], worker["gpus"], worker["device"]) for worker in workers] == [(3, 0, "cpu")] * 3
    trained = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(3)]
    monkeypatch.setattr(networks, "_DROPOUT", 0.0)
    assert_alike(trained[0], weights_of(ProcessGroup()))
    for name, value in trained[0].items():
        np.testing.assert_array_equal(trained[2][name], value, err_msg=name)


def test_jobs_that_no_node_can_hold_fail_and_say_so(refused_jobs: list[Future[list[str]]]) -> None:
    """Within two minutes on a calm machine; `run_driver` does not wait for the quarter of an hour of a busy cluster."""
    for job in refused_jobs:
        lines = job.result()
        assert "NoPlacement: no node that the Ray cluster has or can start holds a training worker" in lines[-1]
