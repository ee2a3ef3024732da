"""Connections to Postgres with a time limit on every wait.

libpq waits without a limit for a server that accepts a connection and does not answer, or that stops answering in the
middle of a session: `connect_timeout` covers only the log-in, and the kernel may go on acknowledging what is sent. So
the connections are asynchronous, and this module waits for them. The server gets the same limit as its
statement_timeout, so that it stops working on what nobody waits for.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, connection, cursor, parse_dsn

POSTGRES_UNAVAILABLE = (psycopg2.OperationalError, psycopg2.InterfaceError)
"""What psycopg2 raises when Postgres cannot be reached or does not answer in time. Its other errors are bugs."""

CONNECT_TIMEOUT_S = 5.0
TIMEOUT_S = 5.0
"""Limit of a statement unless its transaction sets another one: a person or a request waits for most of them."""
_GRACE_S = 1.0  # the server ends a late statement first, and its error says why


class PostgresTimeout(psycopg2.OperationalError):  # type: ignore[misc]  # psycopg2 has no types
    """Postgres accepts the connection and does not answer in time."""


class Connection(connection):  # type: ignore[misc]
    """A connection that commits each statement by itself, outside of `transaction`."""

    timeout_s = TIMEOUT_S
    _wait_s = CONNECT_TIMEOUT_S  # during the log-in

    def wait(self) -> None:
        """Wait for the answer to what was sent. Raises PostgresTimeout, and closes the connection, past the limit."""
        deadline = time.monotonic() + self._wait_s
        while (state := self.poll()) != POLL_OK:
            socket = select.poll()
            socket.register(self.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
            if not socket.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self.close()
                raise PostgresTimeout(f"Postgres did not answer within {self._wait_s:g} s")

    def set_timeout(self, timeout_s: float) -> None:
        """Set how long each statement may take, waiting for locks included."""
        self.timeout_s, self._wait_s = timeout_s, timeout_s + _GRACE_S

    @contextmanager
    def transaction(self, timeout_s: float) -> Iterator[Any]:
        """Give a cursor whose work is committed at the end of the block, and rolled back after an error."""
        usual_s = self.timeout_s
        begin = "BEGIN" if timeout_s == usual_s else f"BEGIN; SET LOCAL statement_timeout = {round(timeout_s * 1000)}"
        self.set_timeout(timeout_s)
        try:
            with self.cursor() as cursor:
                cursor.execute(begin)
                try:
                    yield cursor
                    cursor.execute("COMMIT")
                except BaseException:
                    with suppress(*POSTGRES_UNAVAILABLE):
                        cursor.execute("ROLLBACK")
                    raise
        finally:
            self.set_timeout(usual_s)


class _WaitingCursor(cursor):  # type: ignore[misc]
    def execute(self, query: Any, vars: Any = None) -> None:
        super().execute(query, vars)
        self.connection.wait()


def connect(url: str, *, timeout_s: float = TIMEOUT_S) -> Connection:
    """Log in; each statement may take `timeout_s`. Raises psycopg2.OperationalError."""
    options = f"-c statement_timeout={round(timeout_s * 1000)} {parse_dsn(url).get('options', '')}"
    opened: Connection = psycopg2.connect(
        url, options=options, connection_factory=Connection, cursor_factory=_WaitingCursor, async_=True
    )
    opened.wait()
    opened.set_timeout(timeout_s)
    return opened
