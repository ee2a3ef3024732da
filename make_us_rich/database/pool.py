"""The pool of connections to one database, with a circuit breaker for a server that does not answer."""

from __future__ import annotations

import select
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import Any, Self

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from make_us_rich.core.settings import Settings
from make_us_rich.database.connection import POSTGRES_UNAVAILABLE, TIMEOUT_S, Connection, PostgresTimeout, connect

_MAX_CONNECTIONS = 16
_MAX_IDLE = 4
_RETRY_AFTER_S = 0.5


class Database:
    """A pool of connections to one database. Threads may share it; it connects at its first use."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[Connection] = []
        self._slots = BoundedSemaphore(_MAX_CONNECTIONS)
        self._breaker = _breakers[url]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(settings.database_url.get_secret_value())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections. The pool can be used again: it connects anew."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def transaction(self, *, timeout_s: float = TIMEOUT_S) -> Iterator[Any]:
        """Give a cursor whose work is committed at the end of the block, and rolled back after an error.

        `timeout_s`: limit of each statement, waiting for locks included. Raises psycopg2.OperationalError when
        Postgres cannot be reached or does not answer in time, psycopg2.errors.QueryCanceled when it ends a statement.
        """
        if not self._slots.acquire(timeout=TIMEOUT_S):
            raise psycopg2.OperationalError(f"all {_MAX_CONNECTIONS} connections to Postgres are in use")
        connection = None
        try:
            connection = self._take_idle() or self._connect()
            with connection.transaction(timeout_s) as cursor:
                yield cursor
        finally:
            if connection is not None:
                self._put_back(connection)
            self._slots.release()

    def _connect(self) -> Connection:
        with self._breaker.watch():
            return connect(self._url)

    def _take_idle(self) -> Connection | None:
        """Return an idle connection that is still open, or None."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:  # no check before, because another thread may take the last one
                return None
            socket = select.poll()
            socket.register(connection.fileno(), select.POLLIN)
            if not socket.poll(0):
                return connection
            connection.close()  # an idle connection is readable only when the server closed it

    def _put_back(self, connection: Connection) -> None:
        healthy = not connection.closed and connection.get_transaction_status() == TRANSACTION_STATUS_IDLE
        if healthy and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()


class _CircuitBreaker:
    """After a log-in that timed out, one thread at a time tries again and the others fail at once."""

    def __init__(self) -> None:
        self._error: PostgresTimeout | None = None  # open while there is one
        self._retry_at = 0.0
        self._retrying = Lock()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Guard one log-in. Raises PostgresTimeout at once while the breaker is open."""
        if self._error is None:
            with self._recorded():
                yield
        elif time.monotonic() < self._retry_at or not self._retrying.acquire(blocking=False):
            raise PostgresTimeout(str(self._error))
        else:
            try:
                with self._recorded():
                    yield
            finally:
                self._retrying.release()

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        try:
            yield
        except PostgresTimeout as error:
            self._error, self._retry_at = error, time.monotonic() + _RETRY_AFTER_S
            raise
        except POSTGRES_UNAVAILABLE:
            self._error = None  # refused at once, which keeps nobody waiting
            raise
        self._error = None


# By URL, because a process may open many short-lived pools: a replica opens one for each forecast that it records.
_breakers: defaultdict[str, _CircuitBreaker] = defaultdict(_CircuitBreaker)
