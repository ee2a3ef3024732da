"""Results of training jobs: one `JobResult` for each pair, a JSON object in S3 at jobs/{submission id}/{pair}.json."""

from __future__ import annotations

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, model_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import JobResult
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.registry.client import TAG_ARCHITECTURE, TAG_AS_OF_MS, TAG_MARKET, Registry

TAG_JOB = "ray_job"


def write(store: ObjectStore, submission_id: str, result: JobResult) -> None:
    """Store a result, replacing an earlier one of this job and pair."""
    # what was never set is left out, as in the results that earlier versions wrote
    store.put(_key(submission_id, result.pair), result.model_dump_json(exclude_unset=True).encode())


def find(store: ObjectStore, submission_id: str, pair: Pair) -> JobResult | None:
    """Read the result of one pair; None if the job has not begun it."""
    return _read(store, _key(submission_id, pair))


def of_job(store: ObjectStore, submission_id: str) -> list[JobResult]:
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
    for version in registry.versions_tagged(model_name(pair, interval), TAG_AS_OF_MS, str(as_of_ms)):
        if wanted.items() <= version.tags.items():
            result = find(store, version.tags.get(TAG_JOB, ""), pair)
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
