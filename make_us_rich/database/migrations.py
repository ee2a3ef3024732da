"""Migrations: numbered SQL files that bring a database to this version's tables. dbmate applies each once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
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
    """Apply the missing migrations. Processes that migrate at the same time take turns. Raises MigrationError.

    Takes the URL and no `Database`, because dbmate opens its own connection.
    """
    with Database(database_url) as database, database.transaction(timeout_s=_LOCK_TIMEOUT_S) as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))  # dbmate takes no lock
        done = subprocess.run(
            [_dbmate(), "--migrations-dir", str(folder), "--no-dump-schema", "migrate"],
            env={"DATABASE_URL": _for_dbmate(database_url, cursor.connection.info)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise MigrationError(f"migrating failed: {done.stderr.strip() or done.stdout.strip()}")


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
