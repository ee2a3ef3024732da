"""The Ray job operator and its trigger against a real Ray head."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dags.support import operator as operator_module
from dags.support.operator import RayJobFailed, RayJobOperator, RayJobTrigger
from make_us_rich.operations.ray_jobs import RayJobsClient, RayUnreachable
from tests.support.fixed_response import NOT_FOUND_PAGE, fixed_response_server
from tests.support.processes import free_port

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def ray_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="mur-ray-"))
    url = f"http://127.0.0.1:{free_port()}"
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--port={free_port()}", f"--dashboard-port={url.rpartition(':')[2]}", f"--temp-dir={folder}"]
    command += [f"--ray-client-server-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0"]
    command += [f"--dashboard-agent-listen-port={free_port()}", "--num-cpus=1", "--object-store-memory=80000000"]
    # Ray would require a token that an earlier Ray left in the home folder
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    head = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not _answers(f"{url}/api/jobs/"):
            assert head.poll() is None, "the Ray head ended"
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _connection(ray_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster's address, which Airflow would read from its connection `ray_default`."""

    async def connected(conn_id: str) -> RayJobsClient:
        return RayJobsClient(ray_url)

    monkeypatch.setattr(operator_module, "_client", lambda conn_id: RayJobsClient(ray_url))
    monkeypatch.setattr(operator_module, "_aclient", connected)


def test_a_job_that_succeeds(ray_url: str) -> None:
    event = _run(ray_url, "succeeds", "echo fine")

    assert event["status"] == "SUCCEEDED"


def test_a_job_knows_its_submission_id(ray_url: str) -> None:
    operator = RayJobOperator(task_id="train", entrypoint="test $RAY_JOB_SUBMISSION_ID = knows-itself")
    asyncio.run(operator._submit_or_reattach(["knows-itself"]))

    assert _watch("knows-itself")["status"] == "SUCCEEDED"


def test_a_job_that_fails_ends_with_its_last_lines(ray_url: str) -> None:
    event = _run(ray_url, "fails", "echo the disk is full; exit 3")
    operator = RayJobOperator(task_id="train", entrypoint="")

    with pytest.raises(RayJobFailed, match="the disk is full"):
        operator.resume({}, event)  # type: ignore[arg-type]


def test_a_job_that_is_stopped_by_hand_is_a_failure(ray_url: str) -> None:
    asyncio.run(_submit(ray_url, "stopped", "sleep 60"))
    asyncio.run(_stop_soon(ray_url, "stopped"))

    assert _watch("stopped")["status"] == "STOPPED"


def test_clearing_the_deferred_task_stops_its_job(ray_url: str) -> None:
    asyncio.run(_submit(ray_url, "cleared", "sleep 60"))
    asyncio.run(_until_running(ray_url, "cleared"))
    asyncio.run(_trigger("cleared").on_kill())

    assert _watch("cleared")["status"] == "STOPPED"


def test_a_job_that_ray_does_not_know_is_lost(ray_url: str) -> None:
    assert _watch("never-submitted")["status"] == "LOST"


def test_a_job_that_runs_too_long_fails_and_is_stopped(ray_url: str) -> None:
    asyncio.run(_submit(ray_url, "slow", "sleep 60"))
    asyncio.run(_until_running(ray_url, "slow"))
    event = _watch("slow", run_deadline=time.time() - 1)
    operator = RayJobOperator(task_id="train", entrypoint="")

    with pytest.raises(RayJobFailed, match="TOO SLOW"):
        operator.resume({}, event)  # type: ignore[arg-type]
    assert _watch("slow")["status"] == "STOPPED", "it was left running"


def test_a_retry_reattaches_to_the_job_of_the_first_try(ray_url: str) -> None:
    operator = RayJobOperator(task_id="train", entrypoint="sleep 20")
    first, _ = asyncio.run(operator._submit_or_reattach(["again-try1"]))
    asyncio.run(_until_running(ray_url, "again-try1"))
    second, job = asyncio.run(operator._submit_or_reattach(["again-try2", "again-try1"]))

    assert (first, second) == ("again-try1", "again-try1")
    assert job is not None
    assert job.is_active
    known = [item["submission_id"] for item in httpx.get(f"{ray_url}/api/jobs/").json()]
    assert "again-try2" not in known
    asyncio.run(_stop(ray_url, "again-try1"))


def test_a_retry_after_a_failed_job_submits_a_new_one(ray_url: str) -> None:
    _run(ray_url, "retried-try1", "exit 1")
    operator = RayJobOperator(task_id="train", entrypoint="echo now it works")
    submitted, _ = asyncio.run(operator._submit_or_reattach(["retried-try2", "retried-try1"]))

    assert submitted == "retried-try2"
    assert _watch("retried-try2")["status"] == "SUCCEEDED"


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


def _run(ray_url: str, submission_id: str, entrypoint: str) -> dict[str, Any]:
    asyncio.run(_submit(ray_url, submission_id, entrypoint))
    return _watch(submission_id)


def _trigger(submission_id: str, run_deadline: float | None = None) -> RayJobTrigger:
    soon = time.time() + 120
    return RayJobTrigger(submission_id, "ray_default", 0.2, soon, run_deadline or soon, unreachable_s=5)


def _watch(submission_id: str, run_deadline: float | None = None) -> dict[str, Any]:
    async def first(events: AsyncIterator[Any]) -> dict[str, Any]:
        async for event in events:
            payload: dict[str, Any] = event.payload
            return payload
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(first(_trigger(submission_id, run_deadline).run()))


async def _submit(ray_url: str, submission_id: str, entrypoint: str) -> None:
    async with RayJobsClient(ray_url) as ray:
        await ray.submit(submission_id, entrypoint, {})


async def _stop(ray_url: str, submission_id: str) -> None:
    async with RayJobsClient(ray_url) as ray:
        await ray.stop(submission_id)


async def _stop_soon(ray_url: str, submission_id: str) -> None:
    await _until_running(ray_url, submission_id)
    await _stop(ray_url, submission_id)


async def _until_running(ray_url: str, submission_id: str) -> None:
    async with RayJobsClient(ray_url) as ray:
        for _ in range(300):
            job = await ray.find(submission_id)
            if job is not None and job.status == "RUNNING":
                return
            await asyncio.sleep(0.1)
    raise AssertionError(f"{submission_id} does not start")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False
