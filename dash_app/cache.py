"""A cache of what several visitors are shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar

_MAX_ENTRIES = 4096

T = TypeVar("T")


class Cache:
    """Results by key, each kept for some seconds. Threads that ask for one at the same time share one computation."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[float, Any]] = {}
        self._locks: dict[Hashable, Lock] = {}
        self._lock = Lock()

    def get(self, key: Hashable, compute: Callable[[], T], *, keep_s: float) -> T:
        """Return the result of `compute`, which raises through, or an earlier one."""
        with self._lock:
            if len(self._locks) > _MAX_ENTRIES:
                self._kept.clear()
                self._locks.clear()
            lock = self._locks.setdefault(key, Lock())
        with lock:
            until, value = self._kept.get(key, (0.0, None))
            if time.monotonic() >= until:
                value = compute()
                self._kept[key] = (time.monotonic() + keep_s, value)
            found: T = value
            return found
