"""Connections to Postgres with a time limit on every wait, and their pool with a circuit breaker.

libpq waits without a limit for a server that accepts a connection and does not answer, or that stops answering in the
middle of a session: `connect_timeout` covers only the log-in, and the kernel may go on acknowledging what is sent. So
the connections are asynchronous, and this module waits for them. In a transaction the server gets the same limit as its
statement_timeout, so that it stops working on what nobody waits for.
"""

from __future__ import annotations

import select
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import BoundedSemaphore, Lock
from typing import Any, Self

import psycopg2
from psycopg2.errors import QueryCanceled
from psycopg2.extensions import (
    POLL_OK,
    POLL_READ,
    TRANSACTION_STATUS_IDLE,
    TransactionRollbackError,
    connection,
    cursor,
    parse_dsn,
)

from make_us_rich.core.errors import SettingsError
from make_us_rich.core.settings import Settings

POSTGRES_UNAVAILABLE = (psycopg2.OperationalError, psycopg2.InterfaceError)
"""What psycopg2 raises when Postgres cannot be reached or does not answer in time. Its other errors are bugs."""
STATEMENT_ENDED = (QueryCanceled, TransactionRollbackError)
"""Those among them with which Postgres answers: it ended a statement that took too long or was in a deadlock. The
transaction was rolled back for certain, and nothing else is affected."""

CONNECT_TIMEOUT_S = 5.0
TIMEOUT_S = 5.0
"""Limit of a statement unless its transaction sets another one: a person or a request waits for most of them."""
_IDLE_WAIT_S = 1.0  # a living connection begins a transaction within a millisecond
_GRACE_S = 1.0  # the server ends a late statement first, and its error says why

_MAX_CONNECTIONS = 16
_MAX_IDLE = 4
_RETRY_AFTER_S = 0.5


class PostgresTimeout(psycopg2.OperationalError):  # type: ignore[misc]  # psycopg2 has no types
    """Postgres accepts the connection and does not answer in time."""


class CommitInDoubt(psycopg2.OperationalError):  # type: ignore[misc]
    """The connection was lost while Postgres committed: whether the transaction took effect is unknown.

    `transaction_id`: by which `pg_xact_status` tells it later, where the work of the transaction has read it.
    """

    transaction_id: str | None = None


class Connection(connection):  # type: ignore[misc]
    """A connection that commits each statement by itself, outside of `transaction`."""

    timeout_s: float
    _wait_s: float

    def wait(self) -> None:
        """Wait for the answer to what was sent. Raises PostgresTimeout, and closes the connection, past the limit."""
        deadline = time.monotonic() + self._wait_s
        while (state := self.poll()) != POLL_OK:
            socket = select.poll()
            socket.register(self.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
            if not socket.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self.close()
                raise PostgresTimeout(f"Postgres did not answer within {self._wait_s:g} s")

    def wait_for_login(self, timeout_s: float) -> None:
        """Wait until the server has let this client in."""
        self._wait_s = timeout_s
        self.wait()

    def set_timeout(self, timeout_s: float) -> None:
        """Set how long each statement may take, waiting for locks included."""
        self.timeout_s, self._wait_s = timeout_s, timeout_s + _GRACE_S

    def begin(self, timeout_s: float, *, wait_s: float | None = None) -> None:
        """Begin a transaction whose statements may take `timeout_s`, and wait `wait_s` at most for it to begin."""
        self._wait_s = timeout_s + _GRACE_S if wait_s is None else wait_s
        with self.cursor() as cursor:
            cursor.execute(f"BEGIN; SET LOCAL statement_timeout = {round(timeout_s * 1000)}")
        self._wait_s = timeout_s + _GRACE_S

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Give a cursor for the transaction that began; commits it at the end of the block, or rolls it back.

        Raises CommitInDoubt when the answer to the commit was lost.
        """
        try:
            with self.cursor() as cursor:
                try:
                    yield cursor
                    self._commit(cursor)
                except BaseException:
                    with suppress(*POSTGRES_UNAVAILABLE):
                        cursor.execute("ROLLBACK")
                    raise
        finally:
            self.set_timeout(self.timeout_s)

    def _commit(self, cursor: Any) -> None:
        try:
            cursor.execute("COMMIT")
        except STATEMENT_ENDED:
            raise
        except POSTGRES_UNAVAILABLE as error:
            raise CommitInDoubt(str(error)) from error


class _WaitingCursor(cursor):  # type: ignore[misc]
    def execute(self, query: Any, vars: Any = None) -> None:
        super().execute(query, vars)
        self.connection.wait()


def connect(url: str, *, timeout_s: float | None = None) -> Connection:
    """Log in; this client waits `timeout_s` for each statement, by default TIMEOUT_S. Raises psycopg2.OperationalError.

    A transaction tells the server its limit when it begins: poolers refuse such an option at the log-in. Raises
    SettingsError when the URL is malformed.
    """
    try:
        parse_dsn(url)
    except psycopg2.ProgrammingError:  # whose message may hold the password
        way_out = "write postgresql://USER:PASSWORD@HOST:PORT/NAME, with %-escapes in the password"
        raise SettingsError(f"MUR_DATABASE_URL is no address of a Postgres database: {way_out}") from None
    ours = {"connection_factory": Connection, "cursor_factory": _WaitingCursor}
    opened: Connection = psycopg2.connect(url, async_=True, **ours)
    opened.wait_for_login(CONNECT_TIMEOUT_S)
    opened.set_timeout(TIMEOUT_S if timeout_s is None else timeout_s)
    return opened


class Database:
    """A pool of connections to one database. Threads may share it; it connects at its first use."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[Connection] = []
        self._slots = BoundedSemaphore(_MAX_CONNECTIONS)
        self._breaker = _breakers[url]
        self._users = 0
        self._users_lock = Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(settings.needed("database_url"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections. The pool can be used again: it connects anew."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def in_use(self) -> Iterator[Self]:
        """Keep idle connections as long as any thread is inside such a block; the last one to leave closes them."""
        with self._users_lock:
            self._users += 1
        try:
            yield self
        finally:
            with self._users_lock:
                self._users -= 1
                if self._users == 0:
                    self.close()

    @property
    def away_since(self) -> float | None:
        """When Postgres was first found not to answer, by `time.monotonic`; None once it has answered again."""
        return self._breaker.away_since

    @contextmanager
    def transaction(self, *, timeout_s: float | None = None) -> Iterator[Any]:
        """Give a cursor whose work is committed at the end of the block, and rolled back after an error.

        `timeout_s`: limit of each statement, waiting for locks included; by default TIMEOUT_S. Raises
        psycopg2.OperationalError when Postgres cannot be reached or does not answer in time,
        psycopg2.errors.QueryCanceled when it ends a statement.
        """
        if not self._slots.acquire(timeout=TIMEOUT_S):
            raise psycopg2.OperationalError(f"all {_MAX_CONNECTIONS} connections to Postgres are in use")
        connection = None
        try:
            connection = self._begin(TIMEOUT_S if timeout_s is None else timeout_s)
            with connection.transaction() as cursor:
                yield cursor
        finally:
            if connection is not None:
                self._put_back(connection)
            self._slots.release()

    def _begin(self, timeout_s: float) -> Connection:
        """Begin a transaction on an idle connection, or on a new one when the idle ones are dead.

        A connection that the network lost is not closed and answers nothing. It is safe to begin again elsewhere.
        """
        if connection := self._take_idle():
            try:
                connection.begin(timeout_s, wait_s=_IDLE_WAIT_S)
                self._breaker.away_since = None
                return connection
            except POSTGRES_UNAVAILABLE:
                connection.close()
                self.close()  # the other idle ones were lost with it
        connection = self._connect()
        try:
            connection.begin(timeout_s)
        except BaseException:
            connection.close()
            raise
        return connection

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
        self.away_since: float | None = None
        self._error: PostgresTimeout | None = None  # open while there is one
        self._retry_at = 0.0
        self._retrying = Lock()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Guard one log-in. Raises PostgresTimeout at once while the breaker is open."""
        error = self._error
        if error and (time.monotonic() < self._retry_at or not self._retrying.acquire(blocking=False)):
            raise PostgresTimeout(str(error))
        try:
            yield
            self._error = self.away_since = None
        except PostgresTimeout as late:
            self._note_failure()
            self._error, self._retry_at = late, time.monotonic() + _RETRY_AFTER_S
            raise
        except POSTGRES_UNAVAILABLE:
            self._note_failure()
            self._error = None  # refused at once, which keeps nobody waiting
            raise
        finally:
            if error:
                self._retrying.release()

    def _note_failure(self) -> None:
        if self.away_since is None:
            self.away_since = time.monotonic()


@cache
def shared_database(url: str) -> Database:
    """Return the pool that all threads of this process share."""
    return Database(url)


# By URL, because a process may open many short-lived pools.
_breakers: defaultdict[str, _CircuitBreaker] = defaultdict(_CircuitBreaker)
