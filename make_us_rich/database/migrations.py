"""Migrations: numbered SQL files that bring a database to this version's tables. dbmate applies each once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from psycopg2.extensions import ConnectionInfo

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.database.pool import CONNECT_TIMEOUT_S, Database

SQL_FOLDER = Path(__file__).resolve().parents[2] / "sql"
_LOCK_KEY = 0x6D7572  # "mur"
_LOCK_TIMEOUT_S = 600.0  # another process may take so long to migrate


class MigrationError(MakeUsRichError):
    """A migration failed and was rolled back; the message is from Postgres."""


def migrate(database_url: str, folder: Path = SQL_FOLDER) -> None:
    """Apply the missing migrations. Processes that migrate at the same time take turns.

    Raises MigrationError when one fails, or a newer version of this software has migrated the database.

    Takes the URL and no `Database`, because dbmate opens its own connection.
    """
    with Database(database_url) as database, database.transaction(timeout_s=_LOCK_TIMEOUT_S) as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))  # dbmate takes no lock
        if unknown := sorted(applied(cursor) - known(folder)):
            raise MigrationError(written_by_a_newer_version(unknown))
        done = subprocess.run(
            [_dbmate(), "--migrations-dir", str(folder), "--no-dump-schema", "migrate"],
            env={"DATABASE_URL": _for_dbmate(database_url, cursor.connection.info)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise MigrationError(f"migrating failed: {done.stderr.strip() or done.stdout.strip()}")


def known(folder: Path = SQL_FOLDER) -> set[str]:
    """Return the numbers of this version's migrations."""
    return {file.name.partition("_")[0] for file in folder.glob("*.sql")}


def applied(cursor: Any) -> set[str]:
    """Return the numbers of the migrations that the database has had."""
    cursor.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")
    if not cursor.fetchone()[0]:
        return set()
    cursor.execute("SELECT version FROM schema_migrations")
    return {row[0] for row in cursor.fetchall()}


def written_by_a_newer_version(unknown: Iterable[str]) -> str:
    """Return the error text for a database with migrations that this version does not have."""
    return (
        f"a newer version of Make Us Rich has migrated the database: this one does not know {', '.join(unknown)}. "
        "Use the newer version, or restore the backup from before the upgrade into an empty database"
    )


def _dbmate() -> str:
    in_environment = Path(sys.executable).parent / "dbmate"
    found = str(in_environment) if in_environment.exists() else shutil.which("dbmate")
    if found is None:
        raise MigrationError("dbmate is not installed: pip install 'make-us-rich[stack]'")
    return found


def _for_dbmate(url: str, ours: ConnectionInfo) -> str:
    """Return the URL with the sslmode that our connection negotiated: Go's driver has no `prefer`, libpq's default."""
    requested = ours.dsn_parameters["sslmode"]
    negotiated = "require" if ours.ssl_in_use else "disable"
    sslmode = negotiated if requested in ("prefer", "allow") else requested
    address = urlsplit(url)
    query = [(key, value) for key, value in parse_qsl(address.query) if key not in ("sslmode", "connect_timeout")]
    query += [("sslmode", sslmode), ("connect_timeout", f"{CONNECT_TIMEOUT_S:.0f}")]
    return urlunsplit(address._replace(query=urlencode(query)))
