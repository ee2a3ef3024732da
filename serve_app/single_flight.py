"""Single-flight: concurrent callers share one call; and a cache with a short TTL on top of it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SharedCalls(Generic[K, V]):
    """Calls in flight by key. Each is made once for all who ask meanwhile, and its error reaches each of them."""

    def __init__(self) -> None:
        self._calls: dict[K, asyncio.Task[V]] = {}

    def join(self, key: K, make: Callable[[], Awaitable[V]]) -> asyncio.Future[V]:
        """Return the call in flight, or a new one of `make`. A caller who leaves does not stop it."""
        if key not in self._calls:
            self._calls[key] = asyncio.create_task(self._make(key, make))
            self._calls[key].add_done_callback(_retrieve_exception)
        return asyncio.shield(self._calls[key])

    async def _make(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        try:
            return await make()
        finally:
            del self._calls[key]


class SingleFlightCache(Generic[K, V]):
    """LRU cache with a TTL: concurrent callers share one call, whose error reaches each of them and is not kept."""

    def __init__(self, ttl_s: float, capacity: int = 1) -> None:
        self._ttl_s = ttl_s
        self._capacity = capacity
        self._cached: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._calls: SharedCalls[K, V] = SharedCalls()

    async def get(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """Return the value of a key, from `make` unless it is cached. A caller who leaves does not stop the call."""
        if (known := self._cached.get(key)) is not None and time.monotonic() < known[0]:
            self._cached.move_to_end(key)
            return known[1]
        return await self._calls.join(key, lambda: self._make(key, make))

    async def _make(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        value = await make()
        self._cached[key] = time.monotonic() + self._ttl_s, value
        self._cached.move_to_end(key)
        while len(self._cached) > self._capacity:
            self._cached.popitem(last=False)
        return value


def _retrieve_exception(call: asyncio.Task[V]) -> None:
    """Retrieve the exception of a call that nobody waits for any more, or asyncio logs that it never was."""
    if not call.cancelled():
        call.exception()
