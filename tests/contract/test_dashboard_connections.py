"""`python -m dash_app`, the waitress server, and clients that send half a request or an oversized one."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.dashboard_servers import DashboardServers, dashboard_servers

_TOO_MUCH = 60 * 1024 * 1024
_HALF = {
    "nothing": b"",
    "half of the headers": b"GET /login HTTP/1.1\r\nHost: x\r\nX-",
    "half of a body": b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 1000\r\n\r\nname=",
}


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, own_process=True) as servers:
        yield servers


def _address(dashboard: DashboardServers) -> tuple[str, int]:
    return "127.0.0.1", int(dashboard.url.rpartition(":")[2])


@pytest.mark.parametrize("sent", _HALF.values(), ids=_HALF.keys())
def test_a_hundred_half_open_connections_delay_no_other_request(dashboard: DashboardServers, sent: bytes) -> None:
    with ExitStack() as contexts:
        for _ in range(100):
            connection = contexts.enter_context(socket.create_connection(_address(dashboard)))
            connection.sendall(sent)
        began = time.monotonic()
        for _ in range(5):
            assert httpx.get(f"{dashboard.url}/login", timeout=10).status_code == 200
        assert time.monotonic() - began < 10


def test_a_connection_that_sends_nothing_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dash_app.__main__._IDLE_TIMEOUT_S", 1)
    monkeypatch.setattr("dash_app.__main__._IDLE_CHECKED_EVERY_S", 1)
    with (
        dashboard_servers(tmp_path) as dashboard,
        socket.create_connection(_address(dashboard), timeout=45) as connection,
    ):
        connection.sendall(_HALF["half of the headers"])
        assert connection.recv(1024).partition(b"\r\n")[0] in (b"", b"HTTP/1.1 408 Request Timeout")


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
@pytest.mark.parametrize("path", ["/login", "/_dash-update-component"])
def test_a_body_of_60_mb_is_refused_and_neither_buffered_nor_logged(
    dashboard: DashboardServers, folder: Path, path: str, chunked: bool
) -> None:
    server = _server(dashboard)
    before = server.memory_info().rss
    chunk = b'{"output": "' + b"x" * 65_524
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % _TOO_MUCH
    with socket.create_connection(_address(dashboard), timeout=30) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\n" % path.encode())
        connection.sendall(b"Content-Type: application/json\r\n%s\r\n\r\n" % length)
        try:
            for _ in range(_TOO_MUCH // len(chunk)):
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunked else chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass  # expected: the server stops reading
        try:
            answer = connection.recv(65_536)
        except ConnectionResetError:
            answer = b"HTTP/1.1 413 "
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert server.memory_info().rss - before < 20 * 1024 * 1024
    assert (folder / "dash.log").stat().st_size < 100_000
    assert httpx.get(f"{dashboard.url}/login", timeout=10).status_code == 200


def _server(dashboard: DashboardServers) -> psutil.Process:
    port = _address(dashboard)[1]
    (listening,) = (
        made for made in psutil.net_connections("tcp") if made.status == psutil.CONN_LISTEN and made.laddr.port == port
    )
    return psutil.Process(listening.pid)


def test_forwarded_scheme_and_host_are_ignored_without_a_trusted_proxy(dashboard: DashboardServers) -> None:
    headers = {"X-Forwarded-Proto": "https", "Host": "evil.example"}
    answer = httpx.get(f"{dashboard.url}/overview", headers=headers)
    assert answer.headers["Location"] == "/login?next=/overview"
    assert "Strict-Transport-Security" not in answer.headers
