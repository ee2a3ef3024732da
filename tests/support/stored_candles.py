"""Candles in the S3 store of a test, fetched from its exchange as a DAG run does."""

from __future__ import annotations

from collections.abc import Iterable

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.exchange import ExchangeClient


def store_candles(
    settings: Settings, pairs: Iterable[Pair], as_of_ms: int, history: int, interval: Interval = Interval.H1
) -> None:
    """Store the last `history` candles of each pair that closed at or before `as_of_ms`."""
    for pair in pairs:
        CandleStore.from_settings(settings).update(
            ExchangeClient(settings.exchange_url),
            market=settings.market,
            pair=pair,
            interval=interval,
            as_of_ms=as_of_ms,
            history_candles=history,
        )
