"""What we ask of an S3 store, on each of several: its objects, and the candle store fed by the real replay exchange.

SeaweedFS and `rclone serve s3` run here. MUR_TEST_S3_URL names another store instead, with an admin's keys in
MUR_TEST_S3_ACCESS_KEY and MUR_TEST_S3_SECRET_KEY: the workflow ci.yml runs this file on MinIO, and so can you on yours.
It makes buckets, whose names begin with `mur-test-`, and leaves them.
"""

from __future__ import annotations

import io
import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from make_us_rich.core.errors import MarketUnavailable, PairNotTraded, StoreError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.market import candle_table
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.market.recordings import write_klines
from tests.support.fixed_response import fixed_response_server
from tests.support.folders import traversable_folder
from tests.support.processes import free_port, running
from tests.support.servers import BIN, S3_KEYS, s3_server

pytestmark = pytest.mark.usefixtures("quick_retries")

CHZ = Pair("chz", "usdt")
HISTORY = 2500
MARCH_MS = 1_772_323_200_000  # 2026-03-01 00:00 UTC


GIVEN = os.environ.get("MUR_TEST_S3_URL")
KEYS = (os.environ["MUR_TEST_S3_ACCESS_KEY"], os.environ["MUR_TEST_S3_SECRET_KEY"]) if GIVEN else S3_KEYS


@contextmanager
def _rclone() -> Iterator[str]:
    with traversable_folder() as folder:
        (data := folder / "data").mkdir()
        url = f"http://127.0.0.1:{(port := free_port())}"
        command = [str(BIN / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(KEYS)]

        def answers() -> bool:
            try:
                return httpx.get(url, timeout=2).status_code < 500
            except httpx.HTTPError:
                return False

        with running([*command, str(data)], answers, folder / "rclone.log"):
            yield url


STORES = {"seaweedfs": s3_server, "rclone": _rclone}


@pytest.fixture(scope="module", params=[GIVEN] if GIVEN else list(STORES))
def s3_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if GIVEN:
        yield GIVEN
    else:
        with STORES[request.param]() as url:
            yield url


@pytest.fixture
def needs_conditions(request: pytest.FixtureRequest) -> None:
    """Skip a test of conditional puts on rclone, which ignores `If-None-Match` (its S3 is marked as experimental)."""
    if request.getfixturevalue("s3_url") != GIVEN and request.node.callspec.params["s3_url"] == "rclone":
        pytest.skip("rclone ignores If-None-Match")


@pytest.fixture
def objects(s3_url: str) -> ObjectStore:
    """A bucket for one test."""
    objects = ObjectStore(s3_url, *KEYS, f"mur-test-{secrets.token_hex(8)}")
    objects.ensure_bucket()
    return objects


@pytest.fixture
def store(objects: ObjectStore) -> CandleStore:
    return CandleStore(objects)


@pytest.fixture
def as_of_ms(now_ms: int) -> int:
    return Interval.H1.last_close_ms(now_ms)


@pytest.fixture(autouse=True)
def no_faults(exchange_url: str) -> Iterator[None]:
    yield
    httpx.delete(f"{exchange_url}/_control/faults").raise_for_status()


def set_fault(exchange_url: str, **fault: object) -> None:
    httpx.post(f"{exchange_url}/_control/faults", json=fault).raise_for_status()


def candles(first_ms: int, count: int, price: float = 100.0) -> Candles:
    prices = np.full(count, price)
    return Candles(first_ms + HOUR_MS * np.arange(count), prices, prices, prices, prices, np.arange(count, dtype=float))


def stored(store: CandleStore, as_of_ms: int) -> Candles:
    return store.read("simulated", CHZ, Interval.H1, as_of_ms - HISTORY * HOUR_MS, as_of_ms)


def update(store: CandleStore, exchange_url: str, as_of_ms: int, history: int = HISTORY) -> tuple[int, int]:
    """Update the store; return (candles requested, candles received)."""
    fetched = store.update(
        ExchangeClient(exchange_url),
        market="simulated",
        pair=CHZ,
        interval=Interval.H1,
        as_of_ms=as_of_ms,
        history_candles=history,
    )
    return fetched.requested, fetched.report.kept


def test_candles_are_read_as_written_across_months(store: CandleStore, objects: ObjectStore) -> None:
    written = candles(MARCH_MS - 48 * HOUR_MS, 100)
    store.write("binance", CHZ, Interval.H1, written)

    read = store.read("binance", CHZ, Interval.H1, MARCH_MS - 48 * HOUR_MS, MARCH_MS + 52 * HOUR_MS)

    assert np.array_equal(read.open_time_ms, written.open_time_ms)
    assert np.array_equal(read.volume, written.volume)
    assert objects.list_keys("candles/") == [
        "candles/binance/1h/chz_usdt/2026-02.parquet",
        "candles/binance/1h/chz_usdt/2026-03.parquet",
    ]


def test_a_month_is_stored_as_recordings_are_and_an_older_one_is_read(
    store: CandleStore, objects: ObjectStore, tmp_path: Path
) -> None:
    key, written = "candles/binance/1h/chz_usdt/2026-03.parquet", candles(MARCH_MS, 5)
    store.write("binance", CHZ, Interval.H1, written)
    write_klines(tmp_path / "CHZUSDT.parquet", written)
    found = objects.get(key)
    assert found is not None
    table = pq.read_table(io.BytesIO(found.content))
    assert table.schema.equals(candle_table.SCHEMA, check_metadata=True)
    assert table.equals(pq.read_table(tmp_path / "CHZUSDT.parquet"))

    older = io.BytesIO()
    pq.write_table(pa.table(vars(written)), older)
    objects.put(key, older.getvalue())
    store.write("binance", CHZ, Interval.H1, candles(MARCH_MS + 5 * HOUR_MS, 5))
    assert len(store.read("binance", CHZ, Interval.H1, MARCH_MS, MARCH_MS + 10 * HOUR_MS)) == 10
    found = objects.get(key)
    assert found is not None
    assert pq.read_schema(io.BytesIO(found.content)).names == candle_table.SCHEMA.names


def test_reading_ends_with_the_candle_that_closed_at_the_end(store: CandleStore) -> None:
    store.write("binance", CHZ, Interval.H1, candles(MARCH_MS, 10))

    read = store.read("binance", CHZ, Interval.H1, MARCH_MS + HOUR_MS, MARCH_MS + 5 * HOUR_MS)

    assert (read.open_time_ms - MARCH_MS).tolist() == [HOUR_MS * hour for hour in (1, 2, 3, 4)]


def test_a_pair_that_was_never_stored_has_no_candles(store: CandleStore) -> None:
    assert len(store.read("binance", CHZ, Interval.H1, MARCH_MS, MARCH_MS + HOUR_MS)) == 0


def test_markets_do_not_mix(store: CandleStore) -> None:
    store.write("simulated", CHZ, Interval.H1, candles(MARCH_MS, 10))

    assert len(store.read("binance", CHZ, Interval.H1, MARCH_MS, MARCH_MS + 10 * HOUR_MS)) == 0


@pytest.mark.usefixtures("needs_conditions")
def test_concurrent_writers_of_one_month_lose_no_candle(store: CandleStore) -> None:
    parts = [candles(MARCH_MS + 50 * HOUR_MS * part, 50) for part in range(8)]

    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: store.write("binance", CHZ, Interval.H1, part), parts))

    read = store.read("binance", CHZ, Interval.H1, MARCH_MS, MARCH_MS + 400 * HOUR_MS)
    assert len(read) == 400


def test_an_update_fetches_the_history_and_a_repeated_one_requests_nothing(
    store: CandleStore, exchange_url: str, as_of_ms: int
) -> None:
    assert update(store, exchange_url, as_of_ms) == (HISTORY, HISTORY)
    first = stored(store, as_of_ms)

    set_fault(exchange_url, kind="500")  # every request to the exchange now fails
    assert update(store, exchange_url, as_of_ms) == (0, 0)
    assert np.array_equal(stored(store, as_of_ms).close, first.close)
    assert int(first.open_time_ms[-1]) + HOUR_MS == as_of_ms


def test_an_update_requests_only_missing_candles_at_both_ends(
    store: CandleStore, exchange_url: str, as_of_ms: int
) -> None:
    update(store, exchange_url, as_of_ms - 5 * HOUR_MS, history=100)

    assert update(store, exchange_url, as_of_ms, history=200) == (100, 100)
    assert len(store.read("simulated", CHZ, Interval.H1, as_of_ms - 200 * HOUR_MS, as_of_ms)) == 200


def test_an_old_gap_of_the_exchange_is_requested_once(store: CandleStore, exchange_url: str, as_of_ms: int) -> None:
    set_fault(exchange_url, kind="gap")  # one row is missing in each of the three pages

    assert update(store, exchange_url, as_of_ms) == (HISTORY, HISTORY - 3)
    assert update(store, exchange_url, as_of_ms) == (0, 0)
    assert len(stored(store, as_of_ms)) == HISTORY - 3


def test_a_recent_gap_is_requested_again_and_filled(store: CandleStore, exchange_url: str, as_of_ms: int) -> None:
    set_fault(exchange_url, kind="gap", times=1)

    assert update(store, exchange_url, as_of_ms, history=20) == (20, 19)
    assert update(store, exchange_url, as_of_ms, history=20) == (1, 1)


def test_corrupt_rows_are_reported_and_not_stored(store: CandleStore, exchange_url: str, as_of_ms: int) -> None:
    set_fault(exchange_url, kind="nan", times=1)
    fetched = store.update(
        ExchangeClient(exchange_url),
        market="simulated",
        pair=CHZ,
        interval=Interval.H1,
        as_of_ms=as_of_ms,
        history_candles=HISTORY,
    )

    assert "1 without a finite positive price" in str(fetched)
    assert len(stored(store, as_of_ms)) == HISTORY - 1


def test_a_candle_that_does_not_exist_yet_is_a_transient_error(
    store: CandleStore, exchange_url: str, as_of_ms: int
) -> None:
    set_fault(exchange_url, kind="clock_skew", skew_ms=-HOUR_MS)
    with pytest.raises(MarketUnavailable, match="no candle of chz_usdt that closed at"):
        update(store, exchange_url, as_of_ms)

    httpx.delete(f"{exchange_url}/_control/faults")
    requested, received = update(store, exchange_url, as_of_ms)
    assert requested == received <= 2


def test_an_empty_response_is_an_error_and_not_stored(store: CandleStore, exchange_url: str, as_of_ms: int) -> None:
    set_fault(exchange_url, kind="empty")
    with pytest.raises(MarketUnavailable, match="it returned none at all"):
        update(store, exchange_url, as_of_ms)

    httpx.delete(f"{exchange_url}/_control/faults")
    assert update(store, exchange_url, as_of_ms) == (HISTORY, HISTORY)


def test_a_halted_pair_is_not_traded_any_more(store: CandleStore, exchange_url: str, as_of_ms: int) -> None:
    set_fault(exchange_url, kind="halt", symbol="CHZUSDT")

    with pytest.raises(PairNotTraded, match="chz_usdt is not traded any more"):
        update(store, exchange_url, as_of_ms + 2 * HOUR_MS)


def test_objects_are_listed_by_prefix(objects: ObjectStore) -> None:
    objects.put("jobs/a/chz_usdt.json", b"chz")
    objects.put("jobs/b/eth_usdt.json", b"eth")

    assert objects.list_keys("jobs/a/") == ["jobs/a/chz_usdt.json"]
    found = objects.get("jobs/a/chz_usdt.json")
    assert found is not None
    assert found.content == b"chz"
    assert objects.get("jobs/a/btc_usdt.json") is None


def test_objects_are_kept_replaced_and_removed(objects: ObjectStore, s3_url: str) -> None:
    objects.ensure_bucket()  # it exists
    big = bytes(range(256)) * 80_000
    objects.put("big", big)
    objects.put("small", b"candles")
    found = objects.get("small")
    assert found is not None
    assert objects.replace("small", b"more candles", found)
    assert (newer := objects.get("small")) is not None
    assert newer.content == b"more candles"
    assert (found := objects.get("big")) is not None
    assert found.content == big
    objects.remove("small")
    objects.remove("small")
    assert set(objects.list_modified("")) == {"big"}
    other = ObjectStore(s3_url, *KEYS, f"mur-test-{secrets.token_hex(8)}")
    other.ensure_bucket()
    assert other.list_keys("") == []


@pytest.mark.usefixtures("needs_conditions")
def test_an_object_that_was_changed_meanwhile_is_not_replaced(objects: ObjectStore) -> None:
    assert objects.replace("month", b"first", None)
    assert not objects.replace("month", b"another first", None)
    old = objects.get("month")
    objects.put("month", b"second")
    assert not objects.replace("month", b"third", old)
    assert (found := objects.get("month")) is not None
    assert found.content == b"second"


def test_a_damaged_month_is_named(store: CandleStore, objects: ObjectStore) -> None:
    objects.put("candles/binance/1h/chz_usdt/2026-03.parquet", b"not parquet")

    with pytest.raises(StoreError, match=r"2026-03\.parquet.* is damaged"):
        store.read("binance", CHZ, Interval.H1, MARCH_MS, MARCH_MS + HOUR_MS)


def test_wrong_keys_are_refused_with_the_reason(s3_url: str) -> None:
    with pytest.raises(StoreError, match=r"refused: (SignatureDoesNotMatch|InvalidAccessKeyId|AccessDenied)"):
        ObjectStore(s3_url, KEYS[0], "wrong-secret", "candles").ensure_bucket()


@pytest.mark.parametrize("body", [b"<html><p>hello</p></html>", b"<html>", b"{}", b""])
def test_a_server_that_speaks_no_s3_is_named(body: bytes) -> None:
    with fixed_response_server(200, body) as url, pytest.raises(StoreError, match=f"{url} does not speak S3"):
        ObjectStore(url, *KEYS, "candles").list_keys("jobs/")


def test_an_unreachable_server_is_reported_within_seconds() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()

    with pytest.raises(StoreError, match=f"{url} cannot be reached"):
        ObjectStore(url, *KEYS, "candles").list_keys("jobs/")
    assert time.monotonic() - began < 10


def test_an_unknown_key_is_refused_by_its_name(s3_url: str) -> None:
    with pytest.raises(StoreError, match=r"refused: (InvalidAccessKeyId|AccessDenied)"):
        ObjectStore(s3_url, "another-key", "of-nobody", "candles").get("btc_usdt/2026-11.parquet")
