"""Candles in S3, one object a month: candles/{market}/{interval}/{pair}/{YYYY-MM}.parquet.

The columns are those of `candle_table.SCHEMA`. A row without prices records a candle that the exchange does not have:
later runs do not request it again. Only clean, closed candles are stored.

Writing a month merges it with the stored one and replaces that conditionally (If-Match), so repeated runs change
nothing and concurrent runs lose nothing. On a server that ignores the condition, concurrent runs can lose rows, but
never record a candle as missing that exists: the next run requests the lost rows again.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from make_us_rich.core.errors import MarketUnavailable, PairNotTraded, StoreError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.market.candle_table import from_table, to_table
from make_us_rich.market.candles import CandleReport, Candles, clean, concatenate, contiguous_ranges, merge
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.object_store import ObjectStore

# A missing candle younger than this is requested again: exchanges repair their candles after an outage.
_REPAIR_PERIOD_MS = 24 * HOUR_MS
_MAX_WRITE_ATTEMPTS = 10


@dataclass(frozen=True)
class CandleUpdate:
    """What `CandleStore.update` did."""

    pair: str
    stored: int  # candles now stored of the requested history
    requested: int  # candles requested from the exchange
    report: CandleReport  # of the candles that the exchange returned
    newest_close_ms: int  # of the stored candles, 0 without any

    def __str__(self) -> str:
        return f"{self.pair}: {self.stored} candles stored; requested {self.requested} and received {self.report}"


class CandleStore:
    """Candles in an object store. Every method raises StoreError when S3 refuses or cannot be reached."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(ObjectStore.from_settings(settings))

    def read(self, market: str, pair: Pair, interval: Interval, start_ms: int, end_ms: int) -> Candles:
        """Read the candles opened at or after `start_ms` and closed at or before `end_ms`; gaps stay gaps."""
        rows = self._read_rows(_folder(market, pair, interval), interval, start_ms, end_ms)
        return rows[_has_prices(rows)]

    def write(self, market: str, pair: Pair, interval: Interval, candles: Candles) -> None:
        """Merge candles into the stored ones; of two with the same open time the new one stays."""
        months = candles.open_time_ms.astype("datetime64[ms]").astype("datetime64[M]")
        for month in np.unique(months):
            key = f"{_folder(market, pair, interval)}/{month}.parquet"
            self._write_month(key, candles[months == month])

    def update(
        self,
        exchange: ExchangeClient,
        *,
        market: str,
        pair: Pair,
        interval: Interval,
        as_of_ms: int,
        history_candles: int,
    ) -> CandleUpdate:
        """Fetch and store as `fetch_missing` does.

        Also raises MarketUnavailable when the exchange does not have the candle that closed at `as_of_ms` yet, and
        PairNotTraded when it never will.
        """
        update = self.fetch_missing(
            exchange, market=market, pair=pair, interval=interval, as_of_ms=as_of_ms, history_candles=history_candles
        )
        end_ms = interval.last_close_ms(as_of_ms)
        if update.newest_close_ms < end_ms:
            raise newest_missing(pair, update.newest_close_ms, end_ms, traded=pair.symbol in exchange.traded_pairs())
        return update

    def fetch_missing(
        self,
        exchange: ExchangeClient,
        *,
        market: str,
        pair: Pair,
        interval: Interval,
        as_of_ms: int,
        history_candles: int,
    ) -> CandleUpdate:
        """Fetch the missing ones of the last `history_candles` candles before `as_of_ms` and store them.

        The newest ones may stay missing. Raises the errors of ExchangeClient.
        """
        step = interval.ms
        end_ms = interval.last_close_ms(as_of_ms)
        start_ms = end_ms - history_candles * step
        known = self._read_rows(_folder(market, pair, interval), interval, start_ms, end_ms)
        missing = np.setdiff1d(np.arange(start_ms, end_ms, step), known.open_time_ms)
        received = [
            exchange.klines(pair, interval, first_ms, last_ms) for first_ms, last_ms in contiguous_ranges(missing, step)
        ]
        fetched, report = clean(concatenate(received), interval)
        stored = merge([known[_has_prices(known)], fetched])
        self.write(market, pair, interval, merge([_absent_rows(missing, stored, end_ms), fetched]))
        newest_close_ms = int(stored.open_time_ms[-1]) + step if len(stored) else 0
        return CandleUpdate(str(pair), len(stored), len(missing), report, newest_close_ms)

    def _read_rows(self, folder: str, interval: Interval, start_ms: int, end_ms: int) -> Candles:
        """Read all stored rows, those without prices too."""
        keys = [f"{folder}/{month}.parquet" for month in _months(start_ms, end_ms)]
        rows = concatenate(
            [_from_parquet(key, old.content) for key in keys if (old := self._objects.get(key)) is not None]
        )
        return rows[(rows.open_time_ms >= start_ms) & (rows.open_time_ms + interval.ms <= end_ms)]

    def _write_month(self, key: str, new: Candles) -> None:
        for _ in range(_MAX_WRITE_ATTEMPTS):
            old = self._objects.get(key)
            if old is None:
                merged = new
            else:
                before = _from_parquet(key, old.content)
                # a row without prices never replaces a candle that another run fetched
                merged = merge([new[~_has_prices(new)], before, new[_has_prices(new)]])
            if self._objects.replace(key, _to_parquet(merged), old):
                return
        raise StoreError(f"{key} was changed by other writers {_MAX_WRITE_ATTEMPTS} times in a row: try again")


def newest_missing(pair: Pair, newest_close_ms: int, end_ms: int, *, traded: bool) -> PairNotTraded | MarketUnavailable:
    """Return the error of a pair whose newest candle closed before `end_ms`; `traded`: whether it still is."""
    newest, wanted = (np.datetime64(time_ms, "ms").item() for time_ms in (newest_close_ms, end_ms))
    if not traded:
        return PairNotTraded(
            f"{pair} is not traded any more: its newest candle closed at {newest:%F %H:%M} UTC",
            idle_ms=end_ms - newest_close_ms,
        )
    have = f"its newest closed at {newest:%F %H:%M}" if newest_close_ms else "it returned none at all"
    return MarketUnavailable(f"the exchange has no candle of {pair} that closed at {wanted:%F %H:%M} UTC yet: {have}")


def _absent_rows(missing: NDArray[np.int64], stored: Candles, end_ms: int) -> Candles:
    """Return rows without prices for the candles that the exchange does not have and will not repair."""
    repaired_until_ms = min(end_ms - _REPAIR_PERIOD_MS, int(stored.open_time_ms[-1]) if len(stored) else 0)
    times = np.setdiff1d(missing[missing < repaired_until_ms], stored.open_time_ms)
    empty = np.full(len(times), np.nan)
    return Candles(times, empty, empty, empty, empty, empty)


def _has_prices(rows: Candles) -> NDArray[np.bool_]:
    return ~np.isnan(rows.close)


def _folder(market: str, pair: Pair, interval: Interval) -> str:
    return f"candles/{market}/{interval}/{pair}"


def _months(start_ms: int, end_ms: int) -> list[str]:
    first, last = (np.datetime64(time_ms, "ms").astype("datetime64[M]") for time_ms in (start_ms, end_ms - 1))
    return [str(month) for month in np.arange(first, last + 1)]


def _to_parquet(candles: Candles) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(to_table(candles), buffer, compression="zstd")
    return buffer.getvalue()


def _from_parquet(key: str, content: bytes) -> Candles:
    try:
        return from_table(pq.read_table(io.BytesIO(content)))
    except (pa.ArrowException, KeyError) as error:
        raise StoreError(f"{key} is damaged: delete it, and the next run fetches it again: {error}") from error
