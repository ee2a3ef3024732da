"""Training and serving on several hosts: spread over them, and with one of them cut off."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.hosts.conftest import PAIRS
from tests.support.hosts_cluster import WORKERS, Cluster

pytestmark = pytest.mark.timeout(400)

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_TRAINING = re.compile(r"RayTrainWorker pid=\d+, ip=([\d.]+)\)\S* (\w+): train$", re.MULTILINE)


def test_a_job_trains_pairs_on_both_workers(installation: Cluster) -> None:
    as_of_ms = installation.store_candles(PAIRS)
    installation.train("both", PAIRS[:2], as_of_ms)
    installation.wait_until(lambda: installation.status("both") in _ENDED, 120, "the job does not end")

    log = installation.log("both")
    assert installation.status("both") == "SUCCEEDED", log
    assert {result.status for result in installation.results("both").values()} == {"trained"}, log
    trained_on = {pair: installation.addresses[address] for address, pair in _TRAINING.findall(log)}
    print(trained_on)
    assert sorted(trained_on) == sorted(PAIRS[:2])
    assert sorted(trained_on.values()) == sorted(WORKERS)


def test_replicas_on_several_hosts_answer_through_one_address(installation: Cluster) -> None:
    replicas = installation.replicas()
    print(replicas)
    assert len(set(replicas["gateway"])) > 1, "all gateways are on one host"
    assert len({host for pair in PAIRS for host in replicas[f"{pair}_1h"]}) > 1, "all pairs are on one host"
    for pair in PAIRS * 10:  # each gateway gets some of the calls
        answer = httpx.get(installation.forecast_url(pair), headers=installation.headers, timeout=30)
        assert answer.status_code == 200, answer.text
