"""Candles in S3, a month an object, and the small JSON rows that jobs hand over.

    candles/{market}/{interval}/{pair}/{YYYY-MM}.parquet    columns as in Candles
    candles/{market}/{interval}/{pair}/asked.json           the span that the exchange was asked for

Writing a month merges with what is there, so a run that repeats another changes nothing. Two runs at once may each
write a month; the later one wins, and since both got the same candles from the exchange, nothing is lost.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from make_us_rich.errors import StoreError
from make_us_rich.intervals import interval_ms
from make_us_rich.market.binance import Market
from make_us_rich.market.candles import CandleReport, Candles, clean, concatenate
from make_us_rich.pairs import Pair
from make_us_rich.settings import Settings


@dataclass(frozen=True)
class Fetched:
    """What `update` did."""

    pair: str
    asked: int  # candles that the exchange was asked for
    report: CandleReport  # of the candles it gave

    def __str__(self) -> str:
        return f"{self.pair}: asked for {self.asked} candles, got {self.report}"


class CandleStore:
    """Every method raises StoreError when S3 refuses or cannot be reached."""

    def __init__(self, endpoint_url: str, access_key: str, secret_key: str, bucket: str) -> None:
        address = urlsplit(endpoint_url)
        self._bucket = bucket
        self._endpoint_url = endpoint_url
        self._s3 = Minio(
            endpoint=address.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=address.scheme == "https",
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> CandleStore:
        return cls(
            settings.s3_endpoint_url,
            settings.s3_access_key.get_secret_value(),
            settings.s3_secret_key.get_secret_value(),
            settings.candles_bucket,
        )

    def ensure_bucket(self) -> None:
        with self._told_clearly():
            if not self._s3.bucket_exists(bucket_name=self._bucket):
                self._s3.make_bucket(bucket_name=self._bucket)

    def read(self, market: str, pair: Pair, interval: str, start_ms: int, end_ms: int) -> Candles:
        """Candles opened at or after `start_ms` and closed at or before `end_ms`."""
        folder = _folder(market, pair, interval)
        parts = [self._read_month(f"{folder}/{month}.parquet") for month in _months(start_ms, end_ms)]
        found = concatenate([part for part in parts if part is not None])
        step = interval_ms(interval)
        return found[(found.open_time_ms >= start_ms) & (found.open_time_ms + step <= end_ms)]

    def write(self, market: str, pair: Pair, interval: str, candles: Candles) -> None:
        """Merge into what is stored; of two candles with the same open time the new one stays."""
        folder = _folder(market, pair, interval)
        months = np.array([_month(int(time)) for time in candles.open_time_ms], dtype=str)
        for month in sorted(set(months)):
            key = f"{folder}/{month}.parquet"
            old = self._read_month(key)
            new = candles[months == month]
            merged = concatenate([old, new] if old is not None else [new])
            self._put(key, _to_parquet(merged))

    def update(
        self, exchange: Market, *, market: str, pair: Pair, interval: str, as_of_ms: int, history_candles: int
    ) -> Fetched:
        """Bring the last `history_candles` candles before `as_of_ms` that were not asked for before.

        A hole that the exchange has itself is asked for once, not each hour.
        """
        step = interval_ms(interval)
        start_ms = as_of_ms - history_candles * step
        key = f"{_folder(market, pair, interval)}/asked.json"
        asked = self._get(key)
        known = json.loads(asked) if asked is not None else None
        spans = _missing_spans(known, start_ms, as_of_ms)
        got = concatenate([exchange.klines(pair, interval, start, end) for start, end in spans])
        kept, report = clean(got, interval)
        if len(kept):
            self.write(market, pair, interval, kept)
        # A candle that closed a moment ago may not be there yet: only what is known to be past is never asked again.
        last_close_ms = int(kept.open_time_ms[-1]) + step if len(kept) else start_ms
        self.put_json(key, _joined(known, start_ms, last_close_ms))
        return Fetched(str(pair), sum(end - start for start, end in spans) // step, report)

    def put_json(self, key: str, value: Any) -> None:
        self._put(key, json.dumps(value).encode())

    def get_json(self, key: str) -> Any:
        found = self._get(key)
        if found is None:
            raise StoreError(f"{self._bucket}/{key} is not there")
        return json.loads(found)

    def list_keys(self, prefix: str) -> list[str]:
        with self._told_clearly():
            objects = self._s3.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True)
            return sorted(str(item.object_name) for item in objects)

    def _read_month(self, key: str) -> Candles | None:
        found = self._get(key)
        return None if found is None else _from_parquet(found)

    def _get(self, key: str) -> bytes | None:
        with self._told_clearly():
            try:
                answer = self._s3.get_object(bucket_name=self._bucket, object_name=key)
            except S3Error as error:
                if error.code == "NoSuchKey":
                    return None
                raise
            try:
                return bytes(answer.read())
            finally:
                answer.close()
                answer.release_conn()

    def _put(self, key: str, content: bytes) -> None:
        with self._told_clearly():
            self._s3.put_object(
                bucket_name=self._bucket, object_name=key, data=io.BytesIO(content), length=len(content)
            )

    @contextmanager
    def _told_clearly(self) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            raise StoreError(f"S3 at {self._endpoint_url} refused: {error.code} {error.message}") from error
        except (MinioException, HTTPError, OSError) as error:
            raise StoreError(
                f"S3 at {self._endpoint_url} cannot be reached: {type(error).__name__}"
            ) from error


def _folder(market: str, pair: Pair, interval: str) -> str:
    return f"candles/{market}/{interval}/{pair}"


def _month(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m")


def _months(start_ms: int, end_ms: int) -> list[str]:
    first, last = (datetime.fromtimestamp(time / 1000, UTC) for time in (start_ms, end_ms))
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    return [
        f"{first.year + (first.month - 1 + n) // 12}-{(first.month - 1 + n) % 12 + 1:02d}"
        for n in range(count)
    ]


def _missing_spans(known: dict[str, int] | None, start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    if known is None or known["end_ms"] < start_ms or known["start_ms"] > end_ms:
        return [(start_ms, end_ms)]
    spans = [(start_ms, known["start_ms"]), (known["end_ms"], end_ms)]
    return [(start, end) for start, end in spans if start < end]


def _joined(known: dict[str, int] | None, start_ms: int, end_ms: int) -> dict[str, int]:
    if known is None or known["end_ms"] < start_ms or known["start_ms"] > end_ms:
        return {"start_ms": start_ms, "end_ms": end_ms}
    return {"start_ms": min(known["start_ms"], start_ms), "end_ms": max(known["end_ms"], end_ms)}


def _to_parquet(candles: Candles) -> bytes:
    table = pa.table({item.name: getattr(candles, item.name) for item in fields(Candles)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _from_parquet(content: bytes) -> Candles:
    table = pq.read_table(io.BytesIO(content))
    return Candles(*(table.column(item.name).to_numpy() for item in fields(Candles)))
