"""A limit on how often one user may let the server compute.

A callback costs up to 0.15 s of CPU, and no quota counts it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Lock

from cachetools import TTLCache
from flask import Flask, request
from flask_login import current_user
from werkzeug.exceptions import TooManyRequests

CALLBACKS_PER_MINUTE = 600
"""Of one user, for each process. Opening a page and moving a slider take some dozens."""
DRAWING_COST = 20
"""A drawing of the forecasts page counts as so many callbacks, so there are 30 of them a minute."""
_DRAWING = "..forecast.children..."
_MINUTE_S = 60.0
_MAX_USERS = 10_000


class CallbackLimit:
    """A token bucket for each user, in memory: it holds the callbacks of one minute and refills evenly."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, Lock()
        # A bucket that nobody used for a minute is full, as a new one is.
        self._buckets: TTLCache[int, tuple[float, float]] = TTLCache(_MAX_USERS, _MINUTE_S, timer=clock)

    def install(self, server: Flask) -> None:
        """Answer 429 to callbacks past the limit. Call it after the log-in and the shape are checked."""

        @server.before_request
        def limit_callbacks() -> None:
            if request.path == "/_dash-update-component" and request.method == "POST":
                is_drawing = request.get_json()["output"].startswith(_DRAWING)
                self.take(current_user.user_id, DRAWING_COST if is_drawing else 1)

    def take(self, user_id: int, cost: int) -> None:
        """Take so many callbacks from a user's bucket. Raises TooManyRequests, a 429, when it holds fewer."""
        rate = CALLBACKS_PER_MINUTE / _MINUTE_S
        with self._lock:
            now = self._clock()
            left, at = self._buckets.get(user_id, (float(CALLBACKS_PER_MINUTE), now))
            left = min(CALLBACKS_PER_MINUTE, left + (now - at) * rate)
            is_allowed = left >= cost
            self._buckets[user_id] = (left - cost if is_allowed else left, now)
        if not is_allowed:
            wait_s = math.ceil((cost - left) / rate)
            raise TooManyRequests(f"This account sends too many requests. Wait {wait_s} s.", retry_after=wait_s)
