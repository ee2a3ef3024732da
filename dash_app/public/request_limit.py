"""A limit on how often one visitor may ask for public pages."""

from __future__ import annotations

import time
from threading import Lock

from werkzeug.exceptions import TooManyRequests

from dash_app.security.throttling import client_network

REQUESTS_PER_MINUTE = 120
"""Of one network, for each process. A page and its pictures are a handful of requests."""
BEHIND_A_PROXY = 10
"""Times as many where a proxy hides the visitors' addresses."""


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
