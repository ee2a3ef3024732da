"""Runs, training and serving on several hosts: spread over them, and with one of them cut off."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack

import httpx
import pytest

from make_us_rich.core.interval import HOUR_MS
from tests.stacks.hosts.conftest import PAIRS
from tests.support.airflow_runs import AirflowHome
from tests.support.hosts_cluster import HEAD, STORE, WORKERS, Cluster
from tests.support.polling import polling
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_TRAINING = re.compile(r"RayTrainWorker pid=\d+, ip=([\d.]+)\)\S* (\w+): train$", re.MULTILINE)


def test_a_run_of_airflow_on_the_head_trains_on_the_workers_and_serves_the_new_models(installation: Cluster) -> None:
    head = installation.hosts[HEAD]
    with AirflowHome(head.folder / "airflow", installation.environment, head) as airflow:
        run = airflow.run("train_pairs", {"pairs": PAIRS})

    assert run.state == "success", run.log
    (job,) = installation.jobs()
    trained_on = {pair: installation.addresses[address] for address, pair in _TRAINING.findall(installation.log(job))}
    print(trained_on)
    assert sorted(trained_on) == sorted(PAIRS)
    assert set(trained_on.values()) == set(WORKERS)
    for pair in PAIRS:
        answer = httpx.get(installation.forecast_url(pair), headers=installation.headers, timeout=30)
        assert answer.json()["model"]["name"] == f"{pair}_1h", answer.text


def test_replicas_on_several_hosts_answer_through_one_address(installation: Cluster) -> None:
    replicas = installation.replicas()
    print(replicas)
    # Ray decides on the hosts of single replicas, which differ from start to start
    assert len({host for each in replicas.values() for host in each}) > 1, "all replicas are on one host"
    for pair in PAIRS * 10:  # each gateway gets some of the calls
        answer = httpx.get(installation.forecast_url(pair), headers=installation.headers, timeout=30)
        assert answer.status_code == 200, answer.text


def test_a_slow_link_that_loses_packets_changes_nothing_but_time(installation: Cluster) -> None:
    as_of_ms = installation.store_candles(PAIRS) - 3 * HOUR_MS
    with ExitStack() as contexts:
        for host in WORKERS:
            contexts.enter_context(installation.hosts[host].slowed(delay_ms=100, loss=0.02))
        received = contexts.enter_context(polling(installation.forecast_url(PAIRS[0]), installation.token))
        installation.train("slow", PAIRS[:2], as_of_ms)
        wait_until(lambda: installation.status("slow") in _ENDED, 300, "the job does not end")
        assert installation.alive_nodes() == {HEAD, *WORKERS}

    assert installation.status("slow") == "SUCCEEDED", installation.log("slow")
    results = installation.results("slow").values()
    assert {result.status for result in results} == {"trained"}, [result.reason for result in results]
    assert "ended before a worker was lost" not in installation.log("slow")
    print(received.counts)
    assert received.statuses == {200}


def test_a_host_that_cannot_reach_s3_says_so_and_recovers(installation: Cluster) -> None:
    worker, store = installation.hosts[WORKERS[0]], installation.hosts[STORE]
    as_of_ms = installation.store_candles(PAIRS) - 2 * HOUR_MS
    said = f"StoreError: S3 at {installation.settings.s3_endpoint_url} cannot be reached"
    worker.refuse_to_reach(store.address)
    try:
        installation.train("no-s3", PAIRS[:2], as_of_ms)
        wait_until(lambda: said in installation.log("no-s3"), 120, "the log does not say so")
    finally:
        worker.reach_again(store.address)
    wait_until(lambda: installation.status("no-s3") in _ENDED, 120, "the job does not end")

    assert installation.status("no-s3") == "SUCCEEDED", installation.log("no-s3")


def test_a_worker_host_is_cut_off_in_the_middle_of_a_job_and_of_traffic(installation: Cluster) -> None:
    placed = [host for hosts in installation.replicas().values() for host in hosts]
    host = max(WORKERS, key=placed.count)
    as_of_ms = installation.store_candles(PAIRS) - HOUR_MS
    with ExitStack() as contexts:
        received = [
            contexts.enter_context(polling(installation.forecast_url(pair), installation.token)) for pair in PAIRS
        ]
        installation.train("cut", PAIRS, as_of_ms)
        wait_until(lambda: len(installation.results("cut")) >= 2, 120, "the job trains no pairs")
        installation.hosts[host].unplug()
        try:
            began = time.monotonic()
            wait_until(lambda: host not in installation.alive_nodes(), 120, "Ray does not notice")
            print(f"noticed after {time.monotonic() - began:.0f} s")
            wait_until(lambda: installation.status("cut") in _ENDED, 200, "the job does not end")
            print(f"the job ended after {time.monotonic() - began:.0f} s")
        finally:
            installation.hosts[host].plug()
        wait_until(lambda: host in installation.alive_nodes(), 120, "the host does not come back")
        wait_until(lambda: len(installation.replicas()["gateway"]) == 3, 120, "a gateway is missing")

    assert installation.status("cut") == "SUCCEEDED", installation.log("cut")
    ended = installation.results("cut")
    print({pair: (result.status, result.reason) for pair, result in ended.items()})
    assert sorted(ended) == sorted(PAIRS)
    assert {result.status for result in ended.values()} <= {"trained", "failed"}, installation.log("cut")
    # what the loss of the host made fail, the next run trains
    if failed := [pair for pair, result in ended.items() if result.status == "failed"]:
        installation.train("again", failed, as_of_ms)
        wait_until(lambda: installation.status("again") in _ENDED, 120, "the next attempt does not end")
        assert {result.status for result in installation.results("again").values()} == {"trained"}
    for pair, answers in zip(PAIRS, received, strict=True):
        print(pair, answers.counts)
        answers.check()
        assert 0 not in answers.statuses, "a request got no answer"
        assert 200 in answers.statuses
