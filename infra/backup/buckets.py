"""One S3 bucket as files named by the SHA-256 of their content: equal objects are stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from infra.backup.databases import BackupError
from make_us_rich.market.object_store import ObjectStore


def dump(bucket: ObjectStore, folder: Path) -> dict[str, str]:
    """Save the objects; return the SHA-256 of each by its key. Leaves out objects that were deleted meanwhile."""
    folder.mkdir(exist_ok=True)
    found = {}
    for key in bucket.list_keys(""):
        stored = bucket.get(key)
        if stored is None:
            continue
        found[key] = hashlib.sha256(stored.content).hexdigest()
        file = folder / found[key]
        if not file.exists():
            file.write_bytes(stored.content)
    return found


def restore(bucket: ObjectStore, folder: Path, expected: Mapping[str, str]) -> None:
    """Fill an empty bucket. Raises BackupError when it is not empty, or a file does not match its name."""
    bucket.ensure_bucket()
    present = bucket.list_keys("")
    if present:
        raise BackupError(f"the bucket holds {len(present)} objects: restore into an empty one")
    for key, digest in expected.items():
        content = (folder / digest).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise BackupError(f"{folder / digest} is damaged: its content has another SHA-256")
        bucket.put(key, content)
    if sums(bucket) != dict(expected):
        raise BackupError("the bucket's objects differ from the backup")


def sums(bucket: ObjectStore) -> dict[str, str]:
    stored = {key: bucket.get(key) for key in bucket.list_keys("")}
    return {key: hashlib.sha256(found.content).hexdigest() for key, found in stored.items() if found}
