"""Client of Ray's job submission REST API: the Airflow operator and `mkrich backtest` submit and watch jobs with it.

Source: https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from make_us_rich.core.responses import read_json

ACTIVE = frozenset({"PENDING", "RUNNING"})
_TIMEOUT_S = 30.0


class RayUnreachable(Exception):
    """The Ray cluster cannot be reached, or answered with an error."""


@dataclass(frozen=True)
class RayJob:
    submission_id: str
    status: str  # PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED
    message: str

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE


class RayJobsClient:
    """Asynchronous client of one cluster. Every method raises RayUnreachable when the cluster does not answer."""

    def __init__(self, address: str, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.AsyncClient(base_url=address, headers=headers, timeout=_TIMEOUT_S)

    async def __aenter__(self) -> RayJobsClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._http.aclose()

    async def find(self, submission_id: str) -> RayJob | None:
        """Return the job, or None if the cluster does not know it."""
        answer = await self._call("GET", submission_id)
        if answer is None:
            return None
        return read_json(
            answer, lambda body: RayJob(submission_id, body["status"], body.get("message") or ""), RayUnreachable
        )

    async def submit(self, submission_id: str, entrypoint: str, metadata: Mapping[str, str]) -> None:
        """Run `entrypoint`, a shell command line, on the head of the cluster."""
        body = {"submission_id": submission_id, "entrypoint": entrypoint, "metadata": dict(metadata)}
        _checked(await self._request("POST", "/api/jobs/", json=body))

    async def stop(self, submission_id: str) -> None:
        """Stop a job; does nothing if it has ended or is unknown."""
        await self._call("POST", submission_id, "/stop")

    async def logs(self, submission_id: str) -> str:
        """Return everything that the job's driver has printed; empty for an unknown job."""
        answer = await self._call("GET", submission_id, "/logs")
        return "" if answer is None else read_json(answer, lambda body: body.get("logs") or "", RayUnreachable)

    async def _call(self, method: str, submission_id: str, path: str = "") -> httpx.Response | None:
        """Return the answer, or None for an unknown job: a 404 counts only if Ray's list of jobs confirms it."""
        answer = await self._request(method, f"/api/jobs/{submission_id}{path}")
        if answer.status_code == httpx.codes.NOT_FOUND and not await self._is_listed(submission_id):
            return None
        return _checked(answer)

    async def _is_listed(self, submission_id: str) -> bool:
        answer = _checked(await self._request("GET", "/api/jobs/"))
        return read_json(
            answer, lambda jobs: any(job["submission_id"] == submission_id for job in jobs), RayUnreachable
        )

    async def _request(self, method: str, path: str, json: Mapping[str, object] | None = None) -> httpx.Response:
        try:
            return await self._http.request(method, path, json=json)
        except httpx.HTTPError as error:
            raise RayUnreachable(f"Ray at {self._http.base_url} does not answer: {error!r}") from error


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise RayUnreachable(f"Ray answered {answer.status_code} to {answer.url.path}: {answer.text[-500:]}")
    return answer
