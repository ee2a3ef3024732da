"""The connections that every part of the accounts shares."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from types import TracebackType
from typing import Any, Self

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from make_us_rich.database.connection import Connection, connect

_MOST = 16
_KEPT = 4  # open between uses
_ANSWER_WITHIN_S = 5.0


class Database:
    """Safe to share between threads. Connections are opened on first use."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._idle: list[Connection] = []
        self._free = BoundedSemaphore(_MOST)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A cursor in a transaction of its own. Raises psycopg2.OperationalError when Postgres is away."""
        if not self._free.acquire(timeout=_ANSWER_WITHIN_S):
            raise psycopg2.OperationalError(f"all {_MOST} connections to Postgres are in use")
        opened = None
        try:
            opened = self._take() or connect(self._url, answer_within_s=_ANSWER_WITHIN_S)
            with opened.transaction() as cursor:
                yield cursor
        finally:
            if opened is not None:
                self._put_back(opened)
            self._free.release()

    def _take(self) -> Connection | None:
        """One that was kept; not one that the server closed meanwhile, which alone makes an idle one readable."""
        while True:
            try:
                kept = self._idle.pop()
            except IndexError:  # asked for it, as another thread may take the last one
                return None
            socket = select.poll()
            socket.register(kept.fileno(), select.POLLIN)
            if not socket.poll(0):
                return kept
            kept.close()

    def _put_back(self, opened: Connection) -> None:
        healthy = not opened.closed and opened.get_transaction_status() == TRANSACTION_STATUS_IDLE
        if healthy and len(self._idle) < _KEPT:
            self._idle.append(opened)
        else:
            opened.close()
