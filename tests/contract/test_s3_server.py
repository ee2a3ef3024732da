"""SeaweedFS behind its S3 gateway: its filer, master and volumes neither show nor take anything without keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from make_us_rich.core.errors import StoreError
from make_us_rich.embedded import stores
from make_us_rich.market.object_store import ObjectStore
from tests.support.processes import free_port
from tests.support.servers import S3_KEYS, own_s3_server

KEY = "p/model.onnx"
CONTENT = b"a model" * 100_000
EVIL = {"file": b"another model"}
Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in stores.S3_PORTS}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[ObjectStore]:
    with own_s3_server(tmp_path_factory.mktemp("s3"), ports=ports) as url:
        made = ObjectStore(url, *S3_KEYS, "candles")
        made.ensure_bucket()
        made.put(KEY, CONTENT)
        yield made


@pytest.fixture
def page(bucket: ObjectStore, ports: dict[str, int]) -> Ask:
    """Ask a part of the server as a page of another web site would; it must still hold what was stored afterwards."""

    def ask(part: str, method: str, path: str, **more: object) -> httpx.Response:
        url = f"http://127.0.0.1:{ports[part]}{path}"
        return httpx.request(method, url, headers={"Origin": "http://evil.example"}, timeout=10, **more)  # type: ignore[arg-type]

    return ask


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/buckets/candles/{KEY}"),
        ("GET", "/buckets/candles/"),
        ("POST", f"/buckets/candles/{KEY}"),
        ("PUT", "/buckets/candles/p/x"),
        ("DELETE", "/buckets/candles?recursive=true"),
        ("POST", "/.tus/buckets/candles/p/y"),
    ],
)
def test_the_filer_refuses_who_has_no_key(bucket: ObjectStore, page: Ask, method: str, path: str) -> None:
    answer = page("s3_filer", method, path, **({"files": EVIL} if method in ("POST", "PUT") else {}))

    assert answer.status_code in (401, 403, 404), answer.text
    assert bucket.list_keys("") == [KEY]
    assert _stored(bucket) == CONTENT


@pytest.mark.parametrize(
    "path", ["/dir/assign", "/dir/lookup?volumeId=1", "/dir/status", "/vol/grow?count=1", "/vol/vacuum"]
)
def test_the_master_refuses_who_has_no_key(page: Ask, path: str) -> None:
    assert page("s3_master", "GET", path).status_code in (401, 403, 404)


def test_the_master_deletes_no_bucket_for_who_has_no_key(bucket: ObjectStore, page: Ask) -> None:
    refused = page("s3_master", "GET", "/col/delete?collection=candles")

    assert refused.status_code in (401, 403, 404), refused.text
    assert _stored(bucket) == CONTENT


def test_the_master_takes_no_upload(page: Ask) -> None:
    assert page("s3_master", "POST", "/submit", files=EVIL).status_code in (401, 403, 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/1,01637037d6"), ("POST", "/1,01637037d6"), ("DELETE", "/1,01637037d6"), ("GET", "/ui/index.html")],
)
def test_a_volume_refuses_who_has_no_key(page: Ask, method: str, path: str) -> None:
    answer = page("s3_volume", method, path, **({"files": EVIL} if method == "POST" else {}))

    assert answer.status_code == 401, answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_s3_refuses_who_has_no_key(bucket: ObjectStore, page: Ask, method: str) -> None:
    assert page("s3", method, f"/candles/{KEY}").status_code == 403
    assert _stored(bucket) == CONTENT


def test_s3_with_keys_reads_writes_and_removes(bucket: ObjectStore, ports: dict[str, int]) -> None:
    big = bytes(range(256)) * 80_000  # more than a chunk of the filer
    bucket.put("p/big", big)
    found = bucket.get("p/big")
    assert found is not None
    assert found.content == big
    bucket.remove("p/big")
    assert bucket.list_keys("") == [KEY]
    with pytest.raises(StoreError):
        ObjectStore(f"http://127.0.0.1:{ports['s3']}", S3_KEYS[0], "a wrong key", "candles").list_keys("")


def test_everything_listens_on_loopback_only(bucket: ObjectStore, ports: dict[str, int]) -> None:
    import psutil

    sockets = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    ours = {c.laddr[1]: c.laddr[0] for c in sockets if c.laddr[1] in ports.values()}
    assert set(ports.values()) == set(ours)
    assert set(ours.values()) == {"127.0.0.1"}


def _stored(bucket: ObjectStore) -> bytes | None:
    found = bucket.get(KEY)
    return found.content if found else None
