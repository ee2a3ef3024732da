"""Save and restore everything an installation knows: three Postgres databases and two S3 buckets.

    python -m infra.backup save FOLDER
    python -m infra.backup restore FOLDER      into empty databases and buckets

URLs and keys come from the environment variables that the components read. A backup holds what pg_dump wrote of each
database, the objects as files named by the SHA-256 of their content (equal objects are stored once), and manifest.json:
the row count and checksum of each table, and the SHA-256 of each object. The manifest is written last, so a folder
without one is not a complete backup.

Databases are saved first: an object is stored in S3 before a database names it, so a bucket that is read later has
every object that the databases name. Housekeeping deletes no model meanwhile: both take a lock in the database of
MUR_DATABASE_URL, without which two backups and a deletion are not kept apart.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import make_dsn, parse_dsn

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.database.pool import POSTGRES_UNAVAILABLE, Database
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.operations import backup_lock

DATABASES = {
    "make_us_rich": "MUR_DATABASE_URL",
    "mlflow": "MLFLOW_BACKEND_STORE_URI",
    "airflow": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
}
MANIFEST = "manifest.json"
_CONNECT_WITHIN_S = 10


class BackupError(MakeUsRichError):
    """Saving failed, or the restored data differs from the saved data."""


@dataclass(frozen=True)
class TableSum:
    """`checksum`: the sum over all rows of 60 bits of the MD5 of the row's text; it does not depend on their order."""

    rows: int
    checksum: str


def save(folder: Path, urls: Mapping[str, str], settings: Settings) -> None:
    """Save everything into a new folder. Raises BackupError when the folder exists: no backup is ever overwritten."""
    try:
        folder.mkdir(parents=True, mode=0o700)  # it holds password hashes
    except FileExistsError:
        raise BackupError(f"{folder} exists: name a new folder for each backup") from None
    with _without_deletions(urls.get("make_us_rich")):
        tables = {name: dump_database(url, folder / f"{name}.dump") for name, url in urls.items()}
        objects = {name: dump_bucket(bucket, folder / "objects") for name, bucket in _buckets(settings).items()}
    manifest = {
        "saved_at": datetime.now(UTC).isoformat(),
        "databases": {name: {table: asdict(of) for table, of in all_.items()} for name, all_ in tables.items()},
        "buckets": objects,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


@contextmanager
def _without_deletions(url: str | None) -> Iterator[None]:
    if url is None:
        yield
        return
    with Database(_plain(url)) as database, backup_lock.backup(database):
        yield


def restore(folder: Path, urls: Mapping[str, str], settings: Settings) -> None:
    """Restore everything and check it against the manifest. Raises BackupError when it differs."""
    if not (folder / MANIFEST).exists():
        raise BackupError(f"{folder} has no {MANIFEST}: it is not a complete backup")
    manifest = json.loads((folder / MANIFEST).read_text())
    missing = sorted(manifest["databases"].keys() - urls.keys())
    if missing:
        raise BackupError(f"{', '.join(DATABASES[name] for name in missing)} must be set, to say where to restore to")
    for name, tables in manifest["databases"].items():
        expected = {table: TableSum(**of) for table, of in tables.items()}
        restore_database(urls[name], folder / f"{name}.dump", expected)
    # by their order: the buckets may have other names where it is restored
    for bucket, objects in zip(_buckets(settings).values(), manifest["buckets"].values(), strict=True):
        restore_bucket(bucket, folder / "objects", objects)


def summary(folder: Path) -> str:
    manifest = json.loads((folder / MANIFEST).read_text())
    lines = [f"saved at {manifest['saved_at']}"]
    for name, tables in manifest["databases"].items():
        lines.append(f"{name}: {len(tables)} tables, {sum(of['rows'] for of in tables.values())} rows")
    lines += [f"{name}: {len(objects)} objects" for name, objects in manifest["buckets"].items()]
    return "\n".join(lines)


def dump_database(url: str, file: Path) -> dict[str, TableSum]:
    """Save a consistent snapshot while others write; return each table's sum in the same snapshot."""
    with _snapshot(url) as cursor:
        cursor.execute("SELECT pg_export_snapshot()")
        snapshot = cursor.fetchone()[0]
        _run(url, "pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={file}")
        return _table_sums(cursor)


def restore_database(url: str, file: Path, expected: Mapping[str, TableSum]) -> None:
    """Fill an empty database, in one transaction. Raises BackupError when it is not empty or differs afterwards."""
    found = table_sums(url)
    if found:
        raise BackupError(f"the database holds {', '.join(sorted(found)[:5])} …: restore into an empty one")
    _run(url, "pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(file))
    found = table_sums(url)
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        raise BackupError(f"tables that differ from the backup: {', '.join(differing)}")


def table_sums(url: str) -> dict[str, TableSum]:
    """Return the sum of each table by `schema.table`, without Postgres's own tables."""
    with _snapshot(url) as cursor:
        return _table_sums(cursor)


@contextmanager
def _snapshot(url: str) -> Iterator[Any]:
    """Give a cursor that sees the database as it is at one moment."""
    with (
        closing(psycopg2.connect(_plain(url), connect_timeout=_CONNECT_WITHIN_S)) as connection,
        connection.cursor() as cursor,
    ):
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        yield cursor


def _table_sums(cursor: Any) -> dict[str, TableSum]:
    cursor.execute("SET LOCAL timezone = 'UTC'")  # a row's text contains times in this zone
    cursor.execute(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
        " AND table_schema NOT IN ('pg_catalog', 'information_schema')"
    )
    found = {}
    for schema, table in cursor.fetchall():
        cursor.execute(
            sql.SQL(
                "SELECT count(*), coalesce(sum(('x' || left(md5(row::text), 15))::bit(60)::bigint), 0) FROM {} AS row"
            ).format(sql.Identifier(schema, table))
        )
        rows, checksum = cursor.fetchone()
        found[f"{schema}.{table}"] = TableSum(rows, str(checksum))
    return found


def _run(url: str, program: str, *arguments: str) -> None:
    """Run a Postgres program of the server's major version.

    The password is in its environment, because other users of the machine could read its arguments.
    """
    parameters = {**parse_dsn(_plain(url)), "connect_timeout": str(_CONNECT_WITHIN_S)}
    password = {"PGPASSWORD": parameters.pop("password")} if "password" in parameters else {}
    command = [program, f"--dbname={make_dsn(**parameters)}", *arguments]
    try:
        subprocess.run(command, env={**os.environ, **password}, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise BackupError(f"{program} is not on PATH: install the Postgres client of the server's version") from None
    except subprocess.CalledProcessError as error:
        raise BackupError(f"{program} failed: {error.stderr.strip()}") from None


def _plain(url: str) -> str:
    """Remove the driver from a URL of SQLAlchemy, such as `postgresql+psycopg2://`."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"


def _buckets(settings: Settings) -> dict[str, ObjectStore]:
    keys = settings.needed("s3_access_key"), settings.needed("s3_secret_key")
    names = (settings.candles_bucket, settings.mlflow_bucket)
    return {name: ObjectStore(settings.s3_endpoint_url, *keys, name, settings.s3_region) for name in names}


def dump_bucket(bucket: ObjectStore, folder: Path) -> dict[str, str]:
    """Save the objects; return the SHA-256 of each by its key. Leaves out objects that were deleted meanwhile."""
    folder.mkdir(exist_ok=True)
    found = {}
    for key, content in _objects(bucket):
        found[key] = hashlib.sha256(content).hexdigest()
        file = folder / found[key]
        if not file.exists():
            file.write_bytes(content)
    return found


def restore_bucket(bucket: ObjectStore, folder: Path, expected: Mapping[str, str]) -> None:
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
    if object_sums(bucket) != dict(expected):
        raise BackupError("the bucket's objects differ from the backup")


def object_sums(bucket: ObjectStore) -> dict[str, str]:
    """Return the SHA-256 of each object by its key."""
    return {key: hashlib.sha256(content).hexdigest() for key, content in _objects(bucket)}


def _objects(bucket: ObjectStore) -> Iterator[tuple[str, bytes]]:
    for key in bucket.list_keys(""):
        stored = bucket.get(key)
        if stored is not None:
            yield key, stored.content


def main() -> None:
    parser = argparse.ArgumentParser(description="save or restore all databases and buckets")
    parser.add_argument("action", choices=["save", "restore"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    urls = {name: os.environ[variable] for name, variable in DATABASES.items() if variable in os.environ}
    began = time.monotonic()
    try:
        (save if arguments.action == "save" else restore)(arguments.folder, urls, get_settings())
    except (MakeUsRichError, *POSTGRES_UNAVAILABLE) as error:
        sys.exit(f"error: {str(error).strip()}")
    print(summary(arguments.folder))
    print(f"{arguments.action}: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
