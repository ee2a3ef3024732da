"""Jobs on the Ray cluster: a client that submits and watches them, and the results that training jobs leave in S3.

There is one `JobResult` for each pair, a JSON object at jobs/{submission id}/{pair}.json. The Airflow operator and
`mkrich backtest` use the client. Source of its REST API:
https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.responses import bearer, read_json
from make_us_rich.core.settings import Settings
from make_us_rich.documents import JobResult
from make_us_rich.registry.client import TAG_ARCHITECTURE, TAG_AS_OF_MS, TAG_MARKET, Registry

if TYPE_CHECKING:  # minio would slow down the parsing of every DAG
    from make_us_rich.market.object_store import ObjectStore

TAG_JOB = "ray_job"
"""Tag of a version and its run that holds the submission id of the job that trained it."""

BACKTEST_FORECASTS, BACKTEST_REPORT = "forecasts.parquet", "report.html"
"""The files that a backtest job uploads to S3."""

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
        self._http = httpx.AsyncClient(base_url=address, headers=bearer(token), timeout=_TIMEOUT_S)

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


def write_result(store: ObjectStore, submission_id: str, result: JobResult) -> None:
    """Store a result, replacing an earlier one of this job and pair."""
    store.put(_key(submission_id, result.pair), result.model_dump_json(exclude_unset=True).encode())


def postponed(pair: Pair) -> JobResult:
    """Return the result of a pair that was not begun because the run's compute budget was spent."""
    reason = "the compute budget of the run (MUR_TRAINING_MINUTES) was spent: a later run trains it"
    return JobResult(pair=pair, status="postponed", reason=reason)


def find_result(store: ObjectStore, submission_id: str, pair: Pair) -> JobResult | None:
    """Read the result of one pair; None if the job has not begun it."""
    return _read(store, _key(submission_id, pair))


def job_results(store: ObjectStore, submission_id: str) -> list[JobResult]:
    """Read the results of all pairs that a job has begun."""
    keys = store.list_keys(f"jobs/{submission_id}/")
    return [result for key in keys if (result := _read(store, key)) is not None]


def trained_before(
    registry: Registry, store: ObjectStore, settings: Settings, pair: Pair, interval: Interval, as_of_ms: int
) -> JobResult | None:
    """Return the result of an earlier run that trained this pair as of the same time, market and architecture.

    The registered version decides: a result whose worker died right after registering counts as trained. None when
    there is no such version, or its result is gone.
    """
    wanted = {TAG_AS_OF_MS: str(as_of_ms), TAG_MARKET: settings.market, TAG_ARCHITECTURE: settings.architecture}
    for version in registry.versions_tagged(Series(pair, interval).name, TAG_AS_OF_MS, str(as_of_ms)):
        if wanted.items() <= version.tags.items():
            result = find_result(store, version.tags.get(TAG_JOB, ""), pair)
            if result is not None and result.metrics is not None:
                return result.model_copy(
                    update={"status": "trained", "version": version.version, "run_id": version.run_id}
                )
    return None


def _read(store: ObjectStore, key: str) -> JobResult | None:
    found = store.get(key)
    return None if found is None else JobResult.model_validate_json(found.content)


def _key(submission_id: str, pair: Pair) -> str:
    return f"jobs/{submission_id}/{pair}.json"
