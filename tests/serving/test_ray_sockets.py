"""Where Ray, Serve and its HAProxy listen, as the embedded stack starts them."""

from __future__ import annotations

from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from tests.support.listening_sockets import REPLICA, ListeningSocket, listening
from tests.support.serving_servers import ServingServers
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def sockets(serving: ServingServers) -> set[ListeningSocket]:
    # those of HAProxy: calls, metrics, pages
    wait_until(lambda: len(_of_haproxy(_listening(serving))) >= 3, 90, "HAProxy has not its ports")
    return _listening(serving)


def test_ray_listens_on_loopback_only(sockets: set[ListeningSocket]) -> None:
    assert len(sockets) >= 10
    assert {found for found in sockets if not found.is_local and not found.process.startswith(REPLICA)} == set()


def test_haproxy_listens_on_loopback_only(sockets: set[ListeningSocket]) -> None:
    """The configuration is not read: Ray writes it again at each reload, and our launcher then changes it."""
    of_haproxy = _of_haproxy(sockets)

    assert len(of_haproxy) >= 3  # calls, metrics, statistics
    assert {found.ip for found in of_haproxy} == {"127.0.0.1"}
    for found in of_haproxy:
        assert httpx.get(f"http://127.0.0.1:{found.port}/", timeout=10).status_code < 600


def test_a_replica_that_listens_on_all_interfaces_wants_rays_token(sockets: set[ListeningSocket]) -> None:
    open_to_all = [found for found in sockets if not found.is_local]
    assert open_to_all, "Ray has learned to bind its replicas: take the exception out of tests/support/listening.py"

    for found in open_to_all:
        with grpc.insecure_channel(f"127.0.0.1:{found.port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED, refused.value


def _listening(serving: ServingServers) -> set[ListeningSocket]:
    ours = f"--temp-dir={serving.folder / 'ray'}"
    (head,) = [process for process in psutil.Process().children() if ours in process.cmdline()]
    return listening([head, *head.children(recursive=True)])


def _of_haproxy(sockets: set[ListeningSocket]) -> list[ListeningSocket]:
    return [found for found in sockets if Path(found.process).name == "haproxy"]
