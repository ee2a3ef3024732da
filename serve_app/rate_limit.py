"""How many calls a minute one user may make; in memory, so over each gateway replica by itself."""

from __future__ import annotations

import math
import time
from collections import OrderedDict

_MINUTE_S = 60.0
_MOST_REMEMBERED = 10_000


class RateLimit:
    """A bucket a user: holds a minute's calls, and fills again evenly over a minute."""

    def __init__(self, calls_per_minute: int) -> None:
        self._size = float(calls_per_minute)
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def take(self, user_id: int) -> int:
        """Take one call. Returns 0, or in how many seconds the next one is allowed."""
        now = time.monotonic()
        left, at = self._buckets.pop(user_id, (self._size, now))
        left = min(self._size, left + (now - at) * self._size / _MINUTE_S)
        allowed = left >= 1
        self._buckets[user_id] = (left - allowed, now)
        if len(self._buckets) > _MOST_REMEMBERED:
            self._buckets.popitem(last=False)
        return 0 if allowed else math.ceil((1 - left) * _MINUTE_S / self._size)
