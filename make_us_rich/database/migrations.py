"""Bring a database to this version's tables: numbered SQL files, each applied once, by dbmate."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from psycopg2.extensions import ConnectionInfo

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.database.connection import CONNECT_WITHIN_S, transaction

SQL_FOLDER = Path(__file__).resolve().parents[2] / "sql"
_LOCK = 0x6D7572  # "mur"
_LOCK_WITHIN_S = 600.0  # what another process may take to migrate


class MigrationError(MakeUsRichError):
    """A migration failed, and was rolled back; the message is Postgres's."""


def migrate(database_url: str, folder: Path = SQL_FOLDER) -> None:
    """Apply what is missing. Processes that migrate at once wait for each other. Raises MigrationError."""
    with transaction(database_url, answer_within_s=_LOCK_WITHIN_S) as cursor:
        # dbmate itself takes no lock
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
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
    beside = Path(sys.executable).parent / "dbmate"
    found = str(beside) if beside.exists() else shutil.which("dbmate")
    if found is None:
        raise MigrationError("dbmate is not installed: pip install 'make-us-rich[stack]'")
    return found


def _for_dbmate(url: str, ours: ConnectionInfo) -> str:
    """With TLS as our own connection has it: Go's driver knows none of libpq's `prefer`, which is the default."""
    asked = ours.dsn_parameters["sslmode"]
    negotiated = "require" if ours.ssl_in_use else "disable"
    sslmode = negotiated if asked in ("prefer", "allow") else asked
    address = urlsplit(url)
    query = [(key, value) for key, value in parse_qsl(address.query) if key not in ("sslmode", "connect_timeout")]
    query += [("sslmode", sslmode), ("connect_timeout", f"{CONNECT_WITHIN_S:.0f}")]
    return urlunsplit(address._replace(query=urlencode(query)))
