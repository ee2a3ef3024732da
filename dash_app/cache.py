"""A cache of what several visitors are shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar

from make_us_rich.database.pool import POSTGRES_UNAVAILABLE

_MAX_ENTRIES = 4096
_RETRY_S = 10.0

T = TypeVar("T")


class Cache:
    """Results of Postgres by key, each kept for some seconds. Threads that ask for one at the same time share one.

    While Postgres is away, what was kept last is shown for longer.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[float, Any]] = {}
        self._locks: dict[Hashable, Lock] = {}
        self._lock = Lock()
        self._away_until = 0.0

    def get(self, key: Hashable, compute: Callable[[], T], *, keep_s: float) -> T:
        """Return the result of `compute`, which raises through unless there is an earlier one to return."""
        with self._lock:
            if len(self._locks) > _MAX_ENTRIES:
                self._kept.clear()
                self._locks.clear()
            lock = self._locks.setdefault(key, Lock())
        with lock:
            until, value = self._kept.get(key, (0.0, None))
            is_kept, now = key in self._kept, time.monotonic()
            if now >= until and not (is_kept and now < self._away_until):
                try:
                    value = compute()
                except POSTGRES_UNAVAILABLE:
                    self._away_until = time.monotonic() + _RETRY_S
                    if not is_kept:
                        raise
                else:
                    self._kept[key] = (time.monotonic() + keep_s, value)
            found: T = value
            return found
