"""Connections to Postgres that never wait without a limit.

libpq waits for ever for a server that accepts and does not answer, or that stops answering in the middle of a session:
its own `connect_timeout` ends with the log-in, and the kernel may go on acknowledging what nobody reads. So connections
are asynchronous ones, which are waited for here. The server gets the same limit, to end what nobody waits for.
"""

from __future__ import annotations

import select
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Lock
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, connection, cursor, parse_dsn

AWAY = (psycopg2.OperationalError, psycopg2.InterfaceError)
"""What psycopg2 raises when Postgres cannot be reached or does not answer in time; anything else is our mistake."""

CONNECT_WITHIN_S = 5.0
ANSWER_WITHIN_S = 30.0
_LATER_S = 1.0  # the server ends a statement first, and says why
_ASK_AGAIN_S = 0.5


class NoAnswer(psycopg2.OperationalError):  # type: ignore[misc]  # psycopg2 has no types
    """Postgres accepts the connection and does not answer in time."""


class _Door:
    """Of one database. After a log-in that was not answered, one caller at a time waits for another; the rest fail."""

    def __init__(self) -> None:
        self._shut: NoAnswer | None = None
        self._ask_again_at = 0.0
        self._asking = Lock()

    @contextmanager
    def entered(self) -> Iterator[None]:
        if self._shut is None:
            with self._watched():
                yield
        elif time.monotonic() < self._ask_again_at or not self._asking.acquire(blocking=False):
            raise NoAnswer(str(self._shut))
        else:
            try:
                with self._watched():
                    yield
            finally:
                self._asking.release()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except NoAnswer as error:
            self._shut, self._ask_again_at = error, time.monotonic() + _ASK_AGAIN_S
            raise
        except AWAY:
            self._shut = None  # refused at once, which keeps nobody waiting
            raise
        self._shut = None


_doors: defaultdict[str, _Door] = defaultdict(_Door)


class Connection(connection):  # type: ignore[misc]  # psycopg2 has no types
    answer_within_s = CONNECT_WITHIN_S

    def wait(self) -> None:
        """Until what was sent is answered. Raises OperationalError, and closes, past the limit."""
        deadline = time.monotonic() + self.answer_within_s
        while (state := self.poll()) != POLL_OK:
            socket = select.poll()
            socket.register(self.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
            if not socket.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self.close()
                raise NoAnswer(f"Postgres did not answer within {self.answer_within_s:g} s")

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor; what it did is committed at the end of the block, and rolled back after an error."""
        with self.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                with suppress(*AWAY):
                    cursor.execute("ROLLBACK")
                raise


class _Cursor(cursor):  # type: ignore[misc]
    def execute(self, query: Any, vars: Any = None) -> None:
        super().execute(query, vars)
        self.connection.wait()


def connect(database_url: str, *, answer_within_s: float = ANSWER_WITHIN_S) -> Connection:
    """`answer_within_s`: limit of each statement, waiting for locks included. Raises psycopg2.OperationalError."""
    options = f"-c statement_timeout={round(answer_within_s * 1000)} {parse_dsn(database_url).get('options', '')}"
    with _doors[database_url].entered():
        opened: Connection = psycopg2.connect(
            database_url, options=options, connection_factory=Connection, cursor_factory=_Cursor, async_=True
        )
        opened.wait()
    opened.answer_within_s = answer_within_s + _LATER_S
    return opened


@contextmanager
def transaction(database_url: str, *, answer_within_s: float = ANSWER_WITHIN_S) -> Iterator[Any]:
    """A cursor over a connection of its own; committed at the end, rolled back after an error."""
    with closing(connect(database_url, answer_within_s=answer_within_s)) as opened, opened.transaction() as cursor:
        yield cursor
