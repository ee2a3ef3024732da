"""Each forecast that is served, once, in Postgres: what later days are scored from."""

from __future__ import annotations

import logging

from make_us_rich.core.settings import Settings
from make_us_rich.database.connection import AWAY, transaction
from make_us_rich.documents import QUANTILE_NAMES
from serve_app.replica.forecast import Current

_log = logging.getLogger("ray.serve")

_COLUMNS = (
    "market",
    "pair",
    "interval",
    "target_open_ms",
    "model_version",
    "foundation",
    "as_of_ms",
    "last_close",
    *QUANTILE_NAMES,
)
_INSERT = (
    f"INSERT INTO forecasts ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))}) "
    "ON CONFLICT (market, pair, interval, target_open_ms, model_version, foundation) DO NOTHING"
)
_ANSWER_WITHIN_S = 5


class ForecastLog:
    def __init__(self, settings: Settings) -> None:
        self._database_url = settings.database_url.get_secret_value()
        self._market = settings.market
        self._recorded: Current | None = None

    def record(self, current: Current) -> str:
        """Blocks. Returns what kept it from being recorded, or nothing; another replica's record is as good."""
        if current is self._recorded:
            return ""
        window = current.window
        row = (
            self._market,
            str(current.pair),
            window.interval,
            window.as_of_ms,
            current.version.version,
            current.foundation,
            window.as_of_ms,
            float(window.candles.close[-1]),
            *current.quantiles.tolist(),
        )
        try:
            with transaction(self._database_url, answer_within_s=_ANSWER_WITHIN_S) as cursor:
                cursor.execute(_INSERT, row)
        except AWAY as error:
            _log.warning("the forecast of %s is not recorded yet: %s", current.pair, error)
            return "the forecast is not recorded yet: Postgres does not answer"
        self._recorded = current
        return ""
