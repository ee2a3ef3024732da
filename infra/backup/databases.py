"""Saves and restores one Postgres database with pg_dump and pg_restore, and compares every table by a checksum."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import parse_dsn

from make_us_rich.core.errors import MakeUsRichError

_CONNECT_WITHIN_S = 10
_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
}


class BackupError(MakeUsRichError):
    """Saving failed, or the restored data differs from the saved data."""


@dataclass(frozen=True)
class TableSum:
    """`checksum`: the sum over all rows of 60 bits of the MD5 of the row's text; it does not depend on their order."""

    rows: int
    checksum: str


def dump(url: str, file: Path) -> dict[str, TableSum]:
    """Save a consistent snapshot while others write; return each table's sum in the same snapshot."""
    with (
        closing(psycopg2.connect(_plain(url), connect_timeout=_CONNECT_WITHIN_S)) as connection,
        connection.cursor() as cursor,
    ):
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        cursor.execute("SELECT pg_export_snapshot()")
        snapshot = cursor.fetchone()[0]
        _run(url, "pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={file}")
        return _sums(cursor)


def restore(url: str, file: Path, expected: dict[str, TableSum]) -> None:
    """Fill an empty database, in one transaction. Raises BackupError when it is not empty or differs afterwards."""
    found = sums(url)
    if found:
        raise BackupError(f"the database holds {', '.join(sorted(found)[:5])} …: restore into an empty one")
    database = parse_dsn(_plain(url))["dbname"]
    options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
    _run(url, "pg_restore", *options, f"--dbname={database}", str(file))
    found = sums(url)
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        raise BackupError(f"tables that differ from the backup: {', '.join(differing)}")


def sums(url: str) -> dict[str, TableSum]:
    """Return the sum of each table by `schema.table`, without Postgres's own tables."""
    with (
        closing(psycopg2.connect(_plain(url), connect_timeout=_CONNECT_WITHIN_S)) as connection,
        connection.cursor() as cursor,
    ):
        return _sums(cursor)


def _sums(cursor: Any) -> dict[str, TableSum]:
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
    """Run a program with the password in its environment: other users of the machine could read its arguments."""
    given = {"PGCONNECT_TIMEOUT": str(_CONNECT_WITHIN_S)}
    given |= {_VARIABLES[key]: value for key, value in parse_dsn(_plain(url)).items() if key in _VARIABLES}
    try:
        command = [_find(program), *arguments]
        subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise BackupError(f"{program} failed: {error.stderr.strip()}") from None


def _find(program: str) -> str:
    """Return the program's path. It must have the major version of the server."""
    found = shutil.which(program)
    if found is None:
        raise BackupError(f"{program} is not on PATH: install the Postgres client of the server's version")
    return found


def _plain(url: str) -> str:
    """Remove the driver from a URL of SQLAlchemy, such as `postgresql+psycopg2://`."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"
