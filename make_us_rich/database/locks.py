"""Advisory locks in Postgres: they make a piece of work sequential over all processes and hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.errors import QueryCanceled

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.database.pool import Database


@contextmanager
def advisory_lock(database: Database, subject: str, *, timeout_s: float, late: MakeUsRichError) -> Iterator[None]:
    """Hold the lock of a subject. Postgres frees it even if this process dies.

    Raises `late` when another process holds it for longer than `timeout_s`.
    """
    with database.transaction(timeout_s=timeout_s) as cursor:
        try:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (subject,))
        except QueryCanceled:
            raise late from None
        yield


@contextmanager
def try_shared_lock(database: Database, subject: str) -> Iterator[bool]:
    """Hold the lock of a subject together with other shared holders. Gives False, at once, while it is held alone."""
    with database.transaction() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock_shared(hashtextextended(%s, 0))", (subject,))
        yield cursor.fetchone()[0]
