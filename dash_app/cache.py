"""Caches of what several visitors are shown."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

from cachetools import LRUCache, TTLCache

from make_us_rich.database.pool import POSTGRES_UNAVAILABLE, STATEMENT_ENDED
from make_us_rich.documents import Forecast

_MAX_ENTRIES = 512
_FORGOTTEN_AFTER_S = 3600.0  # since it was computed; until then it is shown while Postgres is away
_RETRY_S = 10.0

T = TypeVar("T")


@dataclass
class _Entry:
    """The last result of a key, None before the first. `lock`: held by the thread that computes it."""

    lock: Lock = field(default_factory=Lock)
    result: tuple[Any] | None = None
    fresh_until: float = 0.0


class Cache:
    """Single-flight cache of results of Postgres by key, each fresh for some seconds.

    Keeps the 512 keys that were asked for last, none for longer than an hour. While Postgres is away, the last result
    is returned although it is no longer fresh.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: TTLCache[Hashable, _Entry] = TTLCache(_MAX_ENTRIES, _FORGOTTEN_AFTER_S, timer=clock)
        self._lock = Lock()  # of the entries, which are not safe for threads
        self._away_until = 0.0

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def get(self, key: Hashable, compute: Callable[[], T], *, ttl_s: float) -> T:
        """Return the result of `compute`, which raises through unless there is an earlier one to return."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry()
        with entry.lock:
            retry_at = max(entry.fresh_until, self._away_until if entry.result else 0.0)
            if self._clock() >= retry_at:
                self._compute(key, entry, compute, ttl_s)
            assert entry.result is not None
            found: T = entry.result[0]
            return found

    def _compute(self, key: Hashable, entry: _Entry, compute: Callable[[], T], ttl_s: float) -> None:
        try:
            entry.result = (compute(),)
        except POSTGRES_UNAVAILABLE as error:
            retry_at = self._clock() + _RETRY_S
            if not isinstance(error, STATEMENT_ENDED):  # else Postgres answers, and other results can be computed
                self._away_until = retry_at
            if entry.result is None:
                raise
            entry.fresh_until = retry_at
            return
        entry.fresh_until = self._clock() + ttl_s
        with self._lock:
            self._entries[key] = entry  # its hour begins again


class ShownForecasts:
    """The 512 forecasts that pages showed last, by a key of what they say.

    With the key, a page reads on in the forecast that it shows when the service has a newer one or does not answer.
    """

    def __init__(self) -> None:
        self._forecasts: LRUCache[str, Forecast] = LRUCache(_MAX_ENTRIES)
        self._lock = Lock()

    def keep(self, forecast: Forecast) -> str:
        """Return the key. The age of the model is no part of it: the browser counts that by itself."""
        document = forecast.model_dump_json(exclude={"model": {"age_hours"}})
        key = hashlib.sha256(document.encode()).hexdigest()
        with self._lock:
            self._forecasts[key] = forecast
        return key

    def get(self, key: str) -> Forecast | None:
        with self._lock:
            return self._forecasts.get(key)
