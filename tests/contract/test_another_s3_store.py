"""The store behind our bucket is replaceable: another S3 server than SeaweedFS, `rclone serve s3`."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from make_us_rich.core.errors import StoreError
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.operations.prepare import prepare_buckets
from tests.support.folders import traversable_folder
from tests.support.processes import free_port, running
from tests.support.servers import BIN, S3_KEYS

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with traversable_folder() as folder:
        (data := folder / "data").mkdir()
        address = f"127.0.0.1:{free_port()}"
        keys = ",".join(S3_KEYS)
        command = [str(BIN / "rclone"), "serve", "s3", "--addr", address, "--auth-key", keys, str(data)]

        def answers() -> bool:
            try:
                return httpx.get(f"http://{address}", timeout=2).status_code < 500
            except httpx.HTTPError:
                return False

        with running(command, answers, folder / "rclone.log"):
            prepare_buckets(f"http://{address}", *S3_KEYS, ("our-candles", "our-models"))
            yield f"http://{address}"


def test_objects_are_kept_found_replaced_and_removed(url: str) -> None:
    bucket = ObjectStore(url, *S3_KEYS, "our-candles")
    assert bucket.get("btc_usdt/2026-11.parquet") is None
    bucket.put("btc_usdt/2026-11.parquet", b"candles")
    found = bucket.get("btc_usdt/2026-11.parquet")
    assert found is not None
    assert found.content == b"candles"
    assert bucket.replace("btc_usdt/2026-11.parquet", b"more candles", found)
    bucket.put("jobs/one.json", b"{}")
    assert bucket.get("jobs/one.json").content == b"{}"
    assert bucket.list_keys("") == ["btc_usdt/2026-11.parquet", "jobs/one.json"]
    bucket.remove("jobs/one.json")
    assert set(bucket.list_modified("")) == {"btc_usdt/2026-11.parquet"}
    assert ObjectStore(url, *S3_KEYS, "our-models").list_keys("") == []


def test_a_wrong_key_is_refused_by_its_name(url: str) -> None:
    with pytest.raises(StoreError, match="refused: InvalidAccessKeyId"):
        ObjectStore(url, "another-key", "of-nobody", "our-candles").get("btc_usdt/2026-11.parquet")
