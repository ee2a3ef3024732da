"""Past forecasts of a pair and the closes that came."""

from __future__ import annotations

import time
from typing import Any

from make_us_rich.core.settings import Settings
from make_us_rich.database.connection import transaction
from make_us_rich.documents import QUANTILE_NAMES

_ANSWER_WITHIN_S = 5
# Of two models that forecast the same candle, the later one's is what callers saw last.
_SELECT = f"""
SELECT DISTINCT ON (target_open_ms) target_open_ms, model_version, foundation, last_close, {", ".join(QUANTILE_NAMES)}
FROM forecasts WHERE market = %s AND pair = %s AND interval = %s AND target_open_ms <= %s
ORDER BY target_open_ms DESC, forecast_id DESC LIMIT %s
"""


def past_forecasts(settings: Settings, pair: str, limit: int) -> list[dict[str, Any]]:
    """Of candles that have closed, because a forecast of an open one costs a call. Newest first, without outcomes.

    Blocks. Raises psycopg2.Error.
    """
    step_ms = settings.interval.ms
    newest_ms = time.time_ns() // 1_000_000 - step_ms
    url = settings.database_url.get_secret_value()
    with transaction(url, answer_within_s=_ANSWER_WITHIN_S) as cursor:
        cursor.execute(_SELECT, (settings.market, pair, settings.interval, newest_ms, limit))
        rows = cursor.fetchall()
    return [
        {
            "target_open_ms": open_ms,
            "target_close_ms": open_ms + step_ms,
            "model_version": version,
            "foundation": foundation,
            "last_close": last_close,
            "quantiles": dict(zip(QUANTILE_NAMES, quantiles, strict=True)),
        }
        for open_ms, version, foundation, last_close, *quantiles in rows
    ]


def with_outcomes(forecasts: list[dict[str, Any]], candles: dict[str, Any]) -> list[dict[str, Any]]:
    """Each with its `close` and whether that fell `inside_80`; None where the candle is unknown."""
    closes = dict(zip(candles["open_time_ms"], candles["close"], strict=True))
    return [_with_outcome(forecast, closes.get(forecast["target_open_ms"])) for forecast in forecasts]


def _with_outcome(forecast: dict[str, Any], close: float | None) -> dict[str, Any]:
    quantiles = forecast["quantiles"]
    inside = None if close is None else quantiles["q10"] <= close <= quantiles["q90"]
    return forecast | {"close": close, "inside_80": inside}
