"""The gateway's memory of forecasts: one question to a replica a moment, however many ask."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from serve_app.directory import Directory

# Also the longest that a swapped model or a new candle stays unseen.
_LIVE_S = 0.5


class ForecastCache:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._kept: dict[str, tuple[float, asyncio.Task[dict[str, Any]]]] = {}

    async def get(self, name: str) -> dict[str, Any]:
        """The forecast of an application, or {"reason": why there is none}. Raises Problem 503."""
        until, asked = self._kept.get(name, (0.0, None))
        if asked is None or time.monotonic() >= until or (asked.done() and asked.exception()):
            asked = asyncio.create_task(self._directory.ask(name, "forecast"))
            self._kept[name] = (time.monotonic() + _LIVE_S, asked)
        return await asyncio.shield(asked)
