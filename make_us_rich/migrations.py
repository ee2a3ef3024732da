"""Bring a database to this version's tables: numbered SQL files, each applied once, by dbmate."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from make_us_rich.database import transaction
from make_us_rich.errors import MakeUsRichError

SQL_FOLDER = Path(__file__).resolve().parents[1] / "sql"
_LOCK = 0x6D7572  # "mur"


class MigrationError(MakeUsRichError):
    """A migration failed, and was rolled back; the message is Postgres's."""


def migrate(database_url: str, folder: Path = SQL_FOLDER) -> None:
    """Apply what is missing. Processes that migrate at once wait for each other. Raises MigrationError."""
    with transaction(database_url) as cursor:
        # dbmate itself takes no lock
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        done = subprocess.run(
            [_dbmate(), "--migrations-dir", str(folder), "--no-dump-schema", "migrate"],
            env={"DATABASE_URL": _with_sslmode(database_url)},
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


def _with_sslmode(url: str) -> str:
    """Go's Postgres driver insists on TLS unless told; psycopg2's default takes what the server offers."""
    if "sslmode=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}sslmode=disable"
