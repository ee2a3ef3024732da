"""The connections that every part of the accounts shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from types import TracebackType
from typing import Any, Self

from psycopg2.pool import ThreadedConnectionPool

_POOL_SIZE = 16
_KEPT = 4  # open between uses; the pool closes the others as soon as they are given back


class Database:
    """Safe to share between threads. Connections are opened on first use."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._pool: ThreadedConnectionPool | None = None
        self._opening = Lock()
        self._free = BoundedSemaphore(_POOL_SIZE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.closeall()

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A cursor in a transaction of its own. A connection that broke meanwhile is replaced."""
        with self._free:  # the pool itself raises when it is empty
            pool = self._open_pool()
            connection = pool.getconn()
            try:
                with connection, connection.cursor() as cursor:
                    yield cursor
            finally:
                pool.putconn(connection, close=bool(connection.closed))

    def _open_pool(self) -> ThreadedConnectionPool:
        with self._opening:
            if self._pool is None:
                self._pool = ThreadedConnectionPool(_KEPT, _POOL_SIZE, self._url)
            return self._pool
