"""A cache of what public pages show, and a limit on how often one visitor may ask for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar

from werkzeug.exceptions import TooManyRequests

from dash_app.security.throttling import client_network

REQUESTS_PER_MINUTE = 120
"""Of one network, for each process. A page and its pictures are a handful of requests."""
BEHIND_A_PROXY = 10
"""Times as many where a proxy hides the visitors' addresses."""
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


class RequestLimit:
    """Counts the requests of each network, in memory: a visitor without an account causes no write to Postgres."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._minute, self._lock = 0, Lock()

    def check(self) -> None:
        """Count this request. Raises TooManyRequests, a 429, past REQUESTS_PER_MINUTE in this process."""
        network = client_network()
        key, allowed = network or "behind a proxy", REQUESTS_PER_MINUTE * (1 if network else BEHIND_A_PROXY)
        with self._lock:
            if self._minute != (minute := int(time.monotonic() // 60)):
                self._minute = minute
                self._counts.clear()
            self._counts[key] = self._counts.get(key, 0) + 1
            is_too_many = self._counts[key] > allowed
        if is_too_many:
            raise TooManyRequests("This address sends too many requests. Wait a minute, then try again.")
