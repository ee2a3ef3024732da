"""The connections that every part of the accounts shares."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from types import TracebackType
from typing import Any, Self

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from make_us_rich.database import Connection, connect

_MOST = 16
_KEPT = 4  # open between uses
_ANSWER_WITHIN_S = 5.0
_ASK_AGAIN_S = 0.5


class Database:
    """Safe to share between threads. Connections are opened on first use.

    While Postgres does not answer, one caller at a time finds out whether it is back; all others fail at once.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._idle: list[Connection] = []
        self._free = BoundedSemaphore(_MOST)
        self._probing = Lock()
        self._away = False
        self._ask_again_at = 0.0

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
        if not self._away:
            with self._connected() as cursor:
                yield cursor
        elif time.monotonic() < self._ask_again_at or not self._probing.acquire(blocking=False):
            raise psycopg2.OperationalError("Postgres did not answer a moment ago")
        else:
            try:
                with self._connected() as cursor:
                    yield cursor
            finally:
                self._probing.release()

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        if not self._free.acquire(timeout=_ANSWER_WITHIN_S):
            raise psycopg2.OperationalError(f"all {_MOST} connections to Postgres are in use")
        opened = None
        try:
            opened = self._take() or connect(self._url, answer_within_s=_ANSWER_WITHIN_S)
            with opened.transaction() as cursor:
                self._away = False
                yield cursor
        finally:
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

    def _put_back(self, opened: Connection | None) -> None:
        if opened is None or opened.closed or opened.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            self._away, self._ask_again_at = True, time.monotonic() + _ASK_AGAIN_S
        elif len(self._idle) < _KEPT:
            self._idle.append(opened)
            return
        if opened is not None:
            opened.close()
