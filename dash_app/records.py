"""The served forecasts and their outcomes, read from Postgres through a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from dash_app.cache import Cache
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms, from_ms
from make_us_rich.database import forecast_logs, forecasts, outcomes, pairs
from make_us_rich.database.forecast_logs import LogDay
from make_us_rich.database.forecasts import ServedForecast
from make_us_rich.database.outcomes import ScoredSeries
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZONS
from make_us_rich.record.schedules import first_scoring_ms
from make_us_rich.record.track_record import TrackRecord, track_record

_SHOWN_CANDLES = 48
_LIVE_S, _LISTS_S, _RECORD_S = 20.0, 60.0, 300.0
_STALE_CANDLES = 2


@dataclass(frozen=True)
class Live:
    """The newest forecast of a pair, as members see it, with those of the candles before it, oldest first.

    counted: the first forecast as of the same close, which the track record counts.
    """

    pair: Pair
    interval: Interval
    past: tuple[ServedForecast, ...]
    counted: ServedForecast

    @property
    def newest(self) -> ServedForecast:
        return self.past[-1]

    @property
    def is_replaced(self) -> bool:
        """True when another model has forecast the same closes anew."""
        return self.newest != self.counted

    @property
    def is_stale(self) -> bool:
        """True when the pair has not been forecast for two candles."""
        return self.newest.as_of_ms + _STALE_CANDLES * self.interval.ms < current_ms()


class ForecastRecords:
    """Reads for the forecasts page and the public ones. Every method raises psycopg2.Error when Postgres is away."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database, self._cache = settings, database, Cache()

    def series(self) -> list[ScoredSeries]:
        """Return every pair and interval with a scored forecast."""
        market = self._settings.market
        return self._cache.get("series", lambda: outcomes.scored_series(self._database, market=market), ttl_s=_LISTS_S)

    def last_closes(self, pairs: Sequence[Pair], interval: Interval) -> dict[Pair, list[tuple[int, float]]]:
        """Return by pair the closes of the last 24 candles that something was forecast from: (time in ms, price)."""
        first_ms = interval.last_close_ms(current_ms()) - HORIZONS * interval.ms

        def read() -> dict[Pair, list[tuple[int, float]]]:
            return forecasts.last_closes(
                self._database, market=self._settings.market, pairs=pairs, interval=interval, first_ms=first_ms
            )

        return self._cache.get(("closes", interval, first_ms, *pairs), read, ttl_s=_LIVE_S)

    def pairs(self) -> list[Pair]:
        """Return the pairs with a scored forecast and the active ones; those of the settings first."""
        active = self._cache.get("pairs", lambda: pairs.active(self._database), ttl_s=_LISTS_S)
        found = {each.pair for each in self.series()} | {each.pair for each in active}
        first = [pair for pair in self._settings.pairs if pair in found]
        return [*first, *sorted(found.difference(first))]

    def live(self, pair: Pair, interval: Interval) -> Live | None:
        """Return the newest forecast; None for a pair that was not forecast within the candles that are shown."""
        return self._cache.get(("live", pair, interval), lambda: self._read_live(pair, interval), ttl_s=_LIVE_S)

    def record(self, pair: Pair, interval: Interval, horizon: int) -> TrackRecord | None:
        """Return the record of a pair at one horizon of HORIZON_GRID; None before anything is scored."""

        def read() -> TrackRecord | None:
            found = outcomes.scored(
                self._database, market=self._settings.market, pair=pair, interval=interval, horizon=horizon
            )
            return track_record(pair, found)

        return self._cache.get(("record", pair, interval, horizon), read, ttl_s=_RECORD_S)

    def first_score(self, pair: Pair, interval: Interval, horizon: int) -> datetime | None:
        """Return when the first forecast of a pair will be scored; None if nothing was forecast yet."""
        live = self.live(pair, interval)
        if live is None:
            return None
        known_ms = max(live.past[0].as_of_ms + horizon * interval.ms, current_ms())
        return from_ms(first_scoring_ms(interval, known_ms))

    def log_days(self) -> list[LogDay]:
        """Return the published days of the log, newest first."""
        market = self._settings.market
        return self._cache.get("days", lambda: forecast_logs.published(self._database, market), ttl_s=_LISTS_S)

    def log_file(self, day: date, kind: str) -> bytes | None:
        """Return the log of a day as `csv` or `parquet`; None if it is not published. Raises ValueError for others."""
        if kind not in ("csv", "parquet"):
            raise ValueError(kind)
        if all(each.day != day for each in self.log_days()):
            return None
        return forecast_logs.content(self._database, self._settings.market, day, kind)

    def _read_live(self, pair: Pair, interval: Interval) -> Live | None:
        last_ms = interval.last_close_ms(current_ms())
        market = self._settings.market
        past = forecasts.first_as_of_each_time(
            self._database,
            market=market,
            pair=pair,
            interval=interval,
            first_ms=last_ms - _SHOWN_CANDLES * interval.ms,
            last_ms=last_ms,
        )
        if not past:
            return None
        *before, counted = past
        newest = forecasts.last_as_of(
            self._database, market=market, pair=pair, interval=interval, as_of_ms=counted.as_of_ms
        )
        return Live(pair, interval, (*before, newest or counted), counted)
