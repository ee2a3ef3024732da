"""Candles in S3, a month an object: candles/{market}/{interval}/{pair}/{YYYY-MM}.parquet.

Columns as in Candles. A row without prices stands for a candle that the exchange was asked for and does not have: it
is not asked for again. Only clean, closed candles are stored.

Writing a month merges with what is there and puts it back on the condition that nobody else did so meanwhile, so a
repeated run changes nothing and two runs at once lose nothing. A server that ignores the condition loses at worst
rows, never the knowledge that they are missing: the next run asks for them again.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from make_us_rich.core.errors import MarketUnavailable, PairNotTraded, StoreError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.market.candles import CandleReport, Candles, clean, concatenate, spans, stack
from make_us_rich.market.exchange import Market
from make_us_rich.market.object_store import Bucket

# A hole younger than this may still be filled: exchanges repair their candles after an outage.
_SETTLED_MS = 24 * HOUR_MS
_TRIES = 10


@dataclass(frozen=True)
class Fetched:
    """What `update` did."""

    pair: str
    total: int  # candles now stored of the history asked for
    asked: int  # candles that the exchange was asked for
    report: CandleReport  # of the candles it gave

    def __str__(self) -> str:
        return f"{self.pair}: {self.total} candles stored; asked for {self.asked} and got {self.report}"


class CandleStore(Bucket):
    """Every method raises StoreError when S3 refuses or cannot be reached."""

    def read(self, market: str, pair: Pair, interval: Interval, start_ms: int, end_ms: int) -> Candles:
        """Candles opened at or after `start_ms` and closed at or before `end_ms`; gaps stay gaps."""
        known = self._known(_folder(market, pair, interval), interval, start_ms, end_ms)
        return known[_real(known)]

    def write(self, market: str, pair: Pair, interval: Interval, candles: Candles) -> None:
        """Merge into what is stored; of two candles with the same open time the new one stays."""
        months = candles.open_time_ms.astype("datetime64[ms]").astype("datetime64[M]")
        for month in np.unique(months):
            key = f"{_folder(market, pair, interval)}/{month}.parquet"
            self._merge(key, candles[months == month])

    def update(
        self, exchange: Market, *, market: str, pair: Pair, interval: Interval, as_of_ms: int, history_candles: int
    ) -> Fetched:
        """Bring what is missing of the last `history_candles` candles before `as_of_ms`.

        Raises MarketUnavailable when the exchange has no candle yet that closed at `as_of_ms`, PairNotTraded when it
        never will, and whatever its client raises.
        """
        step = interval.ms
        end_ms = interval.last_close_ms(as_of_ms)
        start_ms = end_ms - history_candles * step
        known = self._known(_folder(market, pair, interval), interval, start_ms, end_ms)
        missing = np.setdiff1d(np.arange(start_ms, end_ms, step), known.open_time_ms)
        came = [exchange.klines(pair, interval, *span) for span in spans(missing, step)]
        kept, report = clean(stack(came), interval)
        stored = concatenate([known[_real(known)], kept])
        self.write(market, pair, interval, concatenate([_holes(missing, stored, end_ms), kept]))
        newest_close_ms = int(stored.open_time_ms[-1]) + step if len(stored) else 0
        if newest_close_ms < end_ms:
            raise _not_there(exchange, pair, newest_close_ms, end_ms)
        return Fetched(str(pair), len(stored), len(missing), report)

    def _known(self, folder: str, interval: Interval, start_ms: int, end_ms: int) -> Candles:
        """Everything that needs no asking: candles, and holes as rows of NaN."""
        keys = [f"{folder}/{month}.parquet" for month in _months(start_ms, end_ms)]
        rows = stack([_from_parquet(key, old.content) for key in keys if (old := self.get(key)) is not None])
        return rows[(rows.open_time_ms >= start_ms) & (rows.open_time_ms + interval.ms <= end_ms)]

    def _merge(self, key: str, new: Candles) -> None:
        for _ in range(_TRIES):
            old = self.get(key)
            if old is None:
                merged = new
            else:
                before = _from_parquet(key, old.content)
                # a hole never hides a candle that another run got
                merged = concatenate([new[~_real(new)], before, new[_real(new)]])
            if self.replace(key, _to_parquet(merged), old):
                return
        raise StoreError(f"{key} was changed by others {_TRIES} times in a row: try again")


def _not_there(exchange: Market, pair: Pair, newest_close_ms: int, end_ms: int) -> PairNotTraded | MarketUnavailable:
    newest, wanted = (np.datetime64(time_ms, "ms").item() for time_ms in (newest_close_ms, end_ms))
    if pair.symbol not in exchange.traded_pairs():
        return PairNotTraded(
            f"{pair} is not traded any more: its newest candle closed at {newest:%F %H:%M} UTC",
            idle_ms=end_ms - newest_close_ms,
        )
    have = f"its newest closed at {newest:%F %H:%M}" if newest_close_ms else "it gave none at all"
    return MarketUnavailable(f"the exchange has no candle of {pair} that closed at {wanted:%F %H:%M} UTC yet: {have}")


def _holes(missing: NDArray[np.int64], stored: Candles, end_ms: int) -> Candles:
    """Rows for the candles that the exchange will not have either when it is asked again."""
    settled_ms = min(end_ms - _SETTLED_MS, int(stored.open_time_ms[-1]) if len(stored) else 0)
    times = np.setdiff1d(missing[missing < settled_ms], stored.open_time_ms)
    nothing = np.full(len(times), np.nan)
    return Candles(times, nothing, nothing, nothing, nothing, nothing)


def _real(rows: Candles) -> NDArray[np.bool_]:
    return ~np.isnan(rows.close)


def _folder(market: str, pair: Pair, interval: Interval) -> str:
    return f"candles/{market}/{interval}/{pair}"


def _months(start_ms: int, end_ms: int) -> list[str]:
    first, last = (np.datetime64(time_ms, "ms").astype("datetime64[M]") for time_ms in (start_ms, end_ms - 1))
    return [str(month) for month in np.arange(first, last + 1)]


def _to_parquet(candles: Candles) -> bytes:
    table = pa.table({item.name: getattr(candles, item.name) for item in fields(Candles)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _from_parquet(key: str, content: bytes) -> Candles:
    try:
        table = pq.read_table(io.BytesIO(content))
        return Candles(*(table.column(item.name).to_numpy() for item in fields(Candles)))
    except (pa.ArrowException, KeyError) as error:
        raise StoreError(f"{key} is damaged, delete it and it is fetched again: {error}") from error
