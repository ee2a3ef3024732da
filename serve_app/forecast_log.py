"""Each forecast that was served, once, in Postgres: what the score of later days is computed from."""

from __future__ import annotations

import logging

from make_us_rich.settings import Settings
from serve_app.current import Current

_log = logging.getLogger("ray.serve")


class ForecastLog:
    def __init__(self, settings: Settings) -> None:
        self._database_url = settings.database_url.get_secret_value()
        self._recorded: Current | None = None

    def record(self, current: Current) -> str:
        return ""
