"""Records each forecast that is served, once, in Postgres: later days are scored from it."""

from __future__ import annotations

import logging

from make_us_rich.core.settings import Settings
from make_us_rich.database import forecasts
from make_us_rich.database.connection import AWAY
from make_us_rich.documents import QUANTILE_NAMES, Quantiles
from serve_app.replica.forecast import Current

_log = logging.getLogger("ray.serve")

_ANSWER_WITHIN_S = 5


class ForecastLog:
    def __init__(self, settings: Settings) -> None:
        self._database_url = settings.database_url.get_secret_value()
        self._market = settings.market
        self._recorded: Current | None = None

    def record(self, current: Current) -> str:
        """Record a forecast, unless it is recorded already. Blocks. Returns why it could not be, or nothing."""
        if current is self._recorded:
            return ""
        window = current.window
        try:
            forecasts.record(
                self._database_url,
                Quantiles(**dict(zip(QUANTILE_NAMES, current.quantiles.tolist(), strict=True))),
                market=self._market,
                pair=current.pair,
                interval=window.interval,
                as_of_ms=window.as_of_ms,
                version=current.version.version,
                last_close=float(window.candles.close[-1]),
                foundation=current.foundation,
                answer_within_s=_ANSWER_WITHIN_S,
            )
        except AWAY as error:
            _log.warning("the forecast of %s is not recorded yet: %s", current.pair, error)
            return "the forecast is not recorded yet: Postgres does not answer"
        self._recorded = current
        return ""
