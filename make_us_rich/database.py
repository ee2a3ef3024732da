"""One transaction in Postgres, over a connection of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2


@contextmanager
def transaction(database_url: str, *, connect_timeout_s: int = 0) -> Iterator[Any]:
    """A cursor; committed at the end, rolled back after an error, closed either way. 0: wait as libpq does.

    Raises psycopg2.Error.
    """
    opened = psycopg2.connect(database_url, connect_timeout=connect_timeout_s)
    with closing(opened) as connection, connection, connection.cursor() as cursor:
        yield cursor
