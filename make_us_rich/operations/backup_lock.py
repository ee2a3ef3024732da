"""Keeps the deletion of model files and a backup apart.

A backup saves the registry first and the files after it. A file that is deleted in between would be missing in the
backup, although the saved registry names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.database.locks import advisory_lock, try_shared_lock
from make_us_rich.database.pool import Database

_SUBJECT = "backup"
_WAIT_S = 900.0  # longer than a night's deletions take


class BackupRunning(MakeUsRichError):
    """A backup is being saved: no model file may be deleted."""


@contextmanager
def deletion(database: Database) -> Iterator[None]:
    """Delete model files in this block; a backup waits for its end. Raises BackupRunning while one is being saved."""
    with try_shared_lock(database, _SUBJECT) as is_held:
        if not is_held:
            raise BackupRunning("a backup is being saved: nothing is deleted now; the next run deletes it")
        yield


@contextmanager
def backup(database: Database) -> Iterator[None]:
    """Save a backup in this block, during which nothing is deleted. Waits for a deletion, or another backup, to end.

    Raises BackupRunning after a quarter of an hour, psycopg2.OperationalError at the end of the block when the
    connection that holds the lock was lost meanwhile.
    """
    late = BackupRunning(
        f"another backup or housekeeping has been running for {_WAIT_S / 60:.0f} minutes: save again later"
    )
    with advisory_lock(database, _SUBJECT, timeout_s=_WAIT_S, late=late):
        yield
