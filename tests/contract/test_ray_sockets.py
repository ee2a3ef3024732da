"""Where Ray, Serve and its HAProxy listen, as the embedded stack starts them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from tests.support.listening_sockets import REPLICA, ListeningSocket, listening
from tests.support.processes import PROJECT_ROOT, free_port
from tests.support.servers import RAY_TOKEN, ray_head

APP = """
from ray import serve

@serve.deployment
class Echo:
    async def __call__(self, request) -> str:
        return "an answer"

app = Echo.bind()
"""


@pytest.fixture(scope="module")
def sockets(folder: Path) -> Iterator[set[ListeningSocket]]:
    (folder / "echo_app.py").write_text(APP)
    port = free_port()
    config = {
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [{"name": "echo", "route_prefix": "/", "import_path": "echo_app:app"}],
    }
    with ray_head(folder, {"PYTHONPATH": f"{folder}{os.pathsep}{PROJECT_ROOT}"}) as url:
        headers = {"Authorization": f"Bearer {RAY_TOKEN}"}
        applications = f"{url}/api/serve/applications/"
        httpx.put(applications, json=config, headers=headers, timeout=200).raise_for_status()
        _until_answered(f"http://127.0.0.1:{port}/")
        yield listening(psutil.Process().children(recursive=True))


def test_ray_listens_on_loopback_only(sockets: set[ListeningSocket]) -> None:
    assert len(sockets) >= 10
    assert {found for found in sockets if not found.is_local and not found.process.startswith(REPLICA)} == set()


def test_haproxy_listens_on_loopback_only(sockets: set[ListeningSocket], folder: Path) -> None:
    (config,) = (folder / "haproxy").rglob("haproxy.cfg")
    binds = [line.split()[1] for line in config.read_text().splitlines() if line.split()[:1] == ["bind"]]

    assert len(binds) >= 3  # calls, metrics, statistics
    assert {address.rpartition(":")[0] for address in binds} == {"127.0.0.1"}
    for address in binds:
        assert httpx.get(f"http://{address}/", timeout=10).status_code < 600


def test_a_replica_that_listens_on_all_interfaces_wants_rays_token(sockets: set[ListeningSocket]) -> None:
    open_to_all = [found for found in sockets if not found.is_local]
    assert open_to_all, "Ray has learned to bind its replicas: take the exception out of tests/support/listening.py"

    for found in open_to_all:
        with grpc.insecure_channel(f"127.0.0.1:{found.port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED, refused.value


def _until_answered(url: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, "Serve does not answer"
        time.sleep(0.5)
