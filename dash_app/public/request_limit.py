"""A limit on how often one visitor may ask for public pages."""

from __future__ import annotations

import time
from threading import Lock

from werkzeug.exceptions import TooManyRequests

from dash_app.security.throttling import client_network

REQUESTS_PER_MINUTE = 120
"""Of one network, for each process. A page and its pictures are a handful of requests."""


class RequestLimit:
    """Counts the requests of each network, in memory: a visitor without an account causes no write to Postgres."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._minute, self._lock = 0, Lock()

    def check(self) -> None:
        """Count this request. Raises TooManyRequests, a 429, past REQUESTS_PER_MINUTE in this process."""
        network = client_network()
        with self._lock:
            if self._minute != (minute := int(time.monotonic() // 60)):
                self._minute = minute
                self._counts.clear()
            self._counts[network] = self._counts.get(network, 0) + 1
            is_too_many = self._counts[network] > REQUESTS_PER_MINUTE
        if is_too_many:
            raise TooManyRequests("This address sends too many requests. Wait a minute, then try again.")
