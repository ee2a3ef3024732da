"""The Ray job operator and its trigger against a real Ray head."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from dags.support import operator as operator_module
from dags.support.operator import RayJobFailed, RayJobOperator, RayJobTrigger
from make_us_rich.pipeline.ray_jobs import RayJobsClient, RayUnreachable
from tests.support.fixed_response import NOT_FOUND_PAGE, fixed_response_server
from tests.support.processes import free_port
from tests.support.servers import RAY_TOKEN
from tests.support.serving_servers import ServingServers, ray_headers

pytestmark = pytest.mark.timeout(400)

FAILED = "again-try1"
RUNNING = ("reattached-try1", "cleared", "slow")


@pytest.fixture(scope="module")
def ray_url(serving: ServingServers) -> str:
    """Submit the jobs that tests find failed or running: they start at the same time."""
    url = serving.settings.ray_url

    async def submit() -> None:
        async with RayJobsClient(url, RAY_TOKEN) as ray:
            await ray.submit(FAILED, "echo the disk is full; exit 3", {})
            for job in RUNNING:
                await ray.submit(job, "sleep 600", {})
            for job in RUNNING:
                await _until_running(ray, job)

    asyncio.run(submit())
    return url


@pytest.fixture(autouse=True)
def _connection(ray_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster's address, which Airflow would read from its connection `ray_default`."""

    async def connected(conn_id: str) -> RayJobsClient:
        return RayJobsClient(ray_url, RAY_TOKEN)

    monkeypatch.setattr(operator_module, "_client", lambda conn_id: RayJobsClient(ray_url, RAY_TOKEN))
    monkeypatch.setattr(operator_module, "_aclient", connected)


def test_a_job_that_succeeds_knows_its_submission_id() -> None:
    operator = RayJobOperator(task_id="train", entrypoint="test $RAY_JOB_SUBMISSION_ID = knows-itself")
    asyncio.run(operator._submit_or_reattach(["knows-itself"]))

    assert _watch("knows-itself")["status"] == "SUCCEEDED"


def test_a_job_that_fails_ends_with_its_last_lines() -> None:
    event = _watch(FAILED)
    operator = RayJobOperator(task_id="train", entrypoint="")

    with pytest.raises(RayJobFailed, match="the disk is full"):
        operator.resume({}, event)  # type: ignore[arg-type]


def test_a_retry_after_a_failed_job_submits_a_new_one() -> None:
    assert _watch(FAILED)["status"] == "FAILED"
    operator = RayJobOperator(task_id="train", entrypoint="echo now it works")
    submitted, _ = asyncio.run(operator._submit_or_reattach(["again-try2", FAILED]))

    assert submitted == "again-try2"
    assert _watch("again-try2")["status"] == "SUCCEEDED"


def test_a_retry_reattaches_to_the_job_of_the_first_try_which_a_person_then_stops(
    serving: ServingServers, ray_url: str
) -> None:
    first, second = "reattached-try1", "reattached-try2"
    operator = RayJobOperator(task_id="train", entrypoint="sleep 600")
    found, job = asyncio.run(operator._submit_or_reattach([second, first]))

    assert found == first
    assert job is not None
    assert job.is_active
    listed = httpx.get(f"{ray_url}/api/jobs/", headers=ray_headers(serving)).raise_for_status().json()
    assert second not in [item["submission_id"] for item in listed]

    asyncio.run(_stop(ray_url, first))
    assert _watch(first)["status"] == "STOPPED", "a job that was stopped by hand has failed"


def test_clearing_the_deferred_task_stops_its_job() -> None:
    asyncio.run(_trigger("cleared").on_kill())

    assert _watch("cleared")["status"] == "STOPPED"


def test_a_job_that_ray_does_not_know_is_lost() -> None:
    assert _watch("never-submitted")["status"] == "LOST"


def test_a_job_that_runs_too_long_fails_and_is_stopped() -> None:
    event = _watch("slow", run_deadline=time.time() - 1)
    operator = RayJobOperator(task_id="train", entrypoint="")

    with pytest.raises(RayJobFailed, match="TOO SLOW"):
        operator.resume({}, event)  # type: ignore[arg-type]
    assert _watch("slow")["status"] == "STOPPED", "it was left running"


def test_an_unreachable_cluster_is_named_in_the_error() -> None:
    async def ask() -> None:
        async with RayJobsClient(f"http://127.0.0.1:{free_port()}") as nobody:
            await nobody.find("any")

    with pytest.raises(RayUnreachable, match="does not answer"):
        asyncio.run(ask())


def test_the_404_page_of_a_proxy_is_an_error_not_an_unknown_job() -> None:
    async def find(url: str) -> None:
        async with RayJobsClient(url) as ray:
            await ray.find("anything")

    with fixed_response_server(404, NOT_FOUND_PAGE) as proxy, pytest.raises(RayUnreachable, match="404"):
        asyncio.run(find(proxy))


def _trigger(submission_id: str, run_deadline: float | None = None) -> RayJobTrigger:
    soon = time.time() + 300
    return RayJobTrigger(submission_id, "ray_default", 0.2, soon, run_deadline or soon, unreachable_s=60)


def _watch(submission_id: str, run_deadline: float | None = None) -> dict[str, Any]:
    async def first(events: AsyncIterator[Any]) -> dict[str, Any]:
        async for event in events:
            payload: dict[str, Any] = event.payload
            return payload
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(first(_trigger(submission_id, run_deadline).run()))


async def _stop(ray_url: str, submission_id: str) -> None:
    async with RayJobsClient(ray_url, RAY_TOKEN) as ray:
        await ray.stop(submission_id)


async def _until_running(ray: RayJobsClient, submission_id: str) -> None:
    deadline = time.monotonic() + 120
    while (job := await ray.find(submission_id)) is None or job.status != "RUNNING":
        assert time.monotonic() < deadline, f"{submission_id} does not start: {job}"
        await asyncio.sleep(0.1)
