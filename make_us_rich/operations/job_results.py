"""What a training job leaves for Airflow: one small row a pair in S3, jobs/{submission id}/{pair}.json.

`status` is trained (with name, version, run_id, metrics, comparison and forecast), failed (with reason) or begun. A
begun row holds a trained model's results from just before its version is registered, so that a worker that dies then
leaves no version that nobody can judge. A row that stays begun tells that its worker died over it.
"""

from __future__ import annotations

import json
from typing import Any

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.market.object_store import Bucket
from make_us_rich.registry.client import TAG_ARCHITECTURE, TAG_AS_OF_MS, TAG_MARKET, Registry, model_name

TAG_JOB = "ray_job"

Row = dict[str, Any]


def put(bucket: Bucket, submission_id: str, row: Row) -> None:
    bucket.put_json(_key(submission_id, row["pair"]), row)


def find(bucket: Bucket, submission_id: str, pair: str) -> Row | None:
    found = bucket.get(_key(submission_id, pair))
    return None if found is None else json.loads(found.content)


def of_job(bucket: Bucket, submission_id: str) -> list[Row]:
    return [bucket.get_json(key) for key in bucket.list_keys(f"jobs/{submission_id}/")]


def finished(
    registry: Registry, bucket: Bucket, settings: Settings, pair: str, interval: Interval, as_of_ms: int
) -> Row | None:
    """The row of a version that an earlier run or try registered for just this pair, time, market and architecture.

    None when there is none, or nobody kept its row.
    """
    wanted = {TAG_AS_OF_MS: str(as_of_ms), TAG_MARKET: settings.market, TAG_ARCHITECTURE: settings.architecture}
    for version in registry.versions_tagged(model_name(Pair.parse(pair), interval), TAG_AS_OF_MS, str(as_of_ms)):
        if wanted.items() <= version.tags.items():
            row = find(bucket, version.tags.get(TAG_JOB, ""), pair)
            if row is not None and "metrics" in row:
                return row | {"status": "trained", "version": version.version, "run_id": version.run_id}
    return None


def _key(submission_id: str, pair: str) -> str:
    return f"jobs/{submission_id}/{pair}.json"
