"""One Postgres database, dumped and restored by Postgres's own programs, compared row by row."""

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
    """Nothing was saved, or what was restored is not what was saved."""


@dataclass(frozen=True)
class TableSum:
    """`checksum`: the sum over all rows of 60 bits of the MD5 of the row as text; it knows no order."""

    rows: int
    checksum: str


def dump(url: str, file: Path) -> dict[str, TableSum]:
    """Save a database as it is at one moment, while others write; returns every table's sum of that very moment."""
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
    """By schema.table, of everything that is not Postgres's own."""
    with (
        closing(psycopg2.connect(_plain(url), connect_timeout=_CONNECT_WITHIN_S)) as connection,
        connection.cursor() as cursor,
    ):
        return _sums(cursor)


def _sums(cursor: Any) -> dict[str, TableSum]:
    cursor.execute("SET LOCAL timezone = 'UTC'")  # a row's text shows times
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
    """The password goes by the environment, where other users of the machine cannot read it."""
    given = {"PGCONNECT_TIMEOUT": str(_CONNECT_WITHIN_S)}
    given |= {_VARIABLES[key]: value for key, value in parse_dsn(_plain(url)).items() if key in _VARIABLES}
    try:
        command = [_find(program), *arguments]
        subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise BackupError(f"{program} failed: {error.stderr.strip()}") from None


def _find(program: str) -> str:
    """Of the same major version as the server, as Postgres's own packages and ours have it."""
    found = shutil.which(program)
    if found is None:
        raise BackupError(f"{program} is not on PATH: install the Postgres client of the server's version")
    return found


def _plain(url: str) -> str:
    """SQLAlchemy's URLs name a driver too."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"
