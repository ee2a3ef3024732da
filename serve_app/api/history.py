"""Past forecasts of a pair, with the closes that came."""

from __future__ import annotations

import time

from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import forecasts
from make_us_rich.documents import PastForecast


def past_forecasts(settings: Settings, pair: Pair, limit: int) -> list[PastForecast]:
    """Return forecasts of closed candles only, because a forecast of the open one costs a call. Blocks."""
    return forecasts.past(
        settings.database_url.get_secret_value(),
        market=settings.market,
        pair=pair,
        interval=settings.interval,
        closed_by_ms=time.time_ns() // 1_000_000,
        limit=limit,
    )


def with_outcome(forecast: PastForecast, close: float | None) -> PastForecast:
    """Add the actual close and whether it fell into the 80 % band; both are None where the candle is unknown."""
    inside = None if close is None else forecast.quantiles.q10 <= close <= forecast.quantiles.q90
    return forecast.model_copy(update={"close": close, "inside_80": inside})
