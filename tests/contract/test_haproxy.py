"""HAProxy as Ray Serve starts it, with the configuration that Ray writes, over servers that answer in Ray's way."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from make_us_rich.operations import haproxy as haproxy_module
from make_us_rich.operations.haproxy import BINARY_SETTING, launcher, with_our_answers
from tests.support.fixed_response import fixed_response_server
from tests.support.folders import traversable_folder
from tests.support.processes import PROJECT_ROOT, free_port, running


@pytest.fixture
def folder() -> Iterator[Path]:
    with traversable_folder() as made:
        yield made


def _write_rays_configuration(folder: Path, gateways: list[str] | None) -> int:
    """Let Ray write the configuration; returns the port."""
    port = free_port()
    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        is_head=True,
        socket_path=f"{folder}/admin.sock",
        server_state_base=str(folder),
        server_state_file=f"{folder}/state",
        metrics_socket_path=f"{folder}/metrics.sock",
        stats_port=free_port(),
        metrics_port=free_port(),
    )
    servers = [
        ServerConfig(f"replica-{index}", "127.0.0.1", urlsplit(url).port or 0)
        for index, url in enumerate(gateways or [])
    ]
    backend = BackendConfig("http-gateway", "/", servers=servers, app_name="gateway")
    proxy = HAProxyApi(
        config, {} if gateways is None else {"http-gateway": backend}, config_file_path=f"{folder}/haproxy.cfg"
    )
    proxy._generate_config_file_internal()
    return port


@contextmanager
def haproxy(folder: Path, gateways: list[str] | None) -> Iterator[str]:
    """In front of these gateways; None: Ray knows of no application yet. Gives its URL."""
    port = _write_rays_configuration(folder, gateways)
    command = [str(launcher(folder)), "-db", "-f", f"{folder}/haproxy.cfg", "-dR"]
    with running(command, lambda: _listens(port), folder / "haproxy.log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def gateway_proxy() -> Iterator[str]:
    """Run HAProxy in front of a gateway that answers 200."""
    with ExitStack() as contexts:
        folder = contexts.enter_context(traversable_folder())
        gateway = contexts.enter_context(fixed_response_server(200, b"{}", "application/json"))
        yield contexts.enter_context(haproxy(folder, [gateway]))


def _rays_configuration(folder: Path) -> str:
    _write_rays_configuration(folder, None)
    return (folder / "haproxy.cfg").read_text()


def _listens(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/")
    except httpx.HTTPError:
        return False
    return True


def check_is_our_503(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["status"] == 503
    assert answer.json()["type"] == "urn:make-us-rich:problem:no-answer"


def test_while_ray_knows_no_application(folder: Path) -> None:
    with haproxy(folder, None) as url:
        check_is_our_503(httpx.get(f"{url}/v1/forecasts/btc_usdt"))


def test_statistics_and_metrics_listen_where_the_api_does(folder: Path) -> None:
    with haproxy(folder, None):
        config = (folder / "haproxy.cfg").read_text()

    binds = re.findall(r"^\s+bind (\S*):\d+", config, re.MULTILINE)
    assert len(binds) >= 3
    assert set(binds) == {"127.0.0.1"}


def test_while_every_gateway_is_gone(folder: Path) -> None:
    with haproxy(folder, [f"http://127.0.0.1:{free_port()}"]) as url:
        check_is_our_503(httpx.get(f"{url}/v1/forecasts/btc_usdt"))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, b"Path '/v1/forecasts/btc_usdt' not found. Ping http://.../-/routes for available routes."),
        (500, b"Internal Server Error"),
        (408, b"Request timed out after 30.0s."),
    ],
)
def test_plain_text_errors_of_rays_own_proxy(folder: Path, status: int, said: bytes) -> None:
    with fixed_response_server(status, said, "text/plain; charset=utf-8") as ray, haproxy(folder, [ray]) as url:
        check_is_our_503(httpx.get(f"{url}/v1/forecasts/btc_usdt"))


@pytest.mark.parametrize(
    ("status", "content_type"), [(404, "application/problem+json"), (200, "application/json"), (200, "text/plain")]
)
def test_the_gateways_own_answers_pass(folder: Path, status: int, content_type: str) -> None:
    with ExitStack() as contexts:
        gateway = contexts.enter_context(fixed_response_server(status, b'{"from": "the gateway"}', content_type))
        url = contexts.enter_context(haproxy(folder, [gateway]))
        answer = httpx.get(f"{url}/v1/forecasts/btc_usdt")
    assert (answer.status_code, answer.json()) == (status, {"from": "the gateway"})


def _exchange(url: str, raw: bytes, end: bytes = b"}") -> tuple[int, bytes, bytes]:
    """Send bytes; return status, head and body of the answer."""
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=20) as connection:
        connection.sendall(raw)
        received = b""
        while end not in received and (part := connection.recv(65536)):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
_UPGRADE = b"Connection: Upgrade\r\nUpgrade: %s\r\n" + _KEY


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET /v1/pairs HTTP/1.1\r\nHost: a\r\n" + (_UPGRADE % b"websocket") + b"\r\n", 200),
        (b"GET /v1/pairs HTTP/1.1\r\nHost: a\r\n" + (_UPGRADE % b"h2c") + b"\r\n", 200),
    ],
)
def test_a_clients_mistake_is_a_problem_document(gateway_proxy: str, raw: bytes, status: int) -> None:
    got, head, body = _exchange(gateway_proxy, raw)

    assert got == status, (head, body)
    if status != 200:
        assert b"content-type: application/problem+json" in head
        assert json.loads(body)["status"] == status
        assert status != 405 or b"allow: get, head, post, put, options" in head


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n",
    ],
    ids=["line", "header", "length", "size"],
)
def test_what_is_no_http_is_a_400_of_haproxys_own(gateway_proxy: str, raw: bytes) -> None:
    """HAProxy answers before any rule of its configuration; its page is HTML, which it has no setting for."""
    assert _exchange(gateway_proxy, raw, end=b"</html>")[0] == 400


@pytest.mark.parametrize("status", [400, 403, 405, 426])
def test_a_refusal_of_rays_http_server_is_the_clients_mistake(folder: Path, status: int) -> None:
    with (
        fixed_response_server(status, b"Invalid HTTP request received.", "text/plain") as ray,
        haproxy(folder, [ray]) as url,
    ):
        answer = httpx.get(f"{url}/v1/pairs")

    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["type"] == "urn:make-us-rich:problem:invalid-request"


def test_slow_requests_are_cut_off_with_a_problem_document(folder: Path) -> None:
    config = with_our_answers(_rays_configuration(folder), folder)

    assert re.search(r"^defaults\n(?:    .*\n)*    timeout http-request 10s\n", config, re.MULTILINE)
    assert re.search(r"^    timeout client 60s$", config, re.MULTILINE)
    assert re.search(r"^    option http-buffer-request$", config, re.MULTILINE)
    (file,) = re.findall(r"^    errorfile 408 (.*)$", config, re.MULTILINE)
    head, _, body = Path(file).read_bytes().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["status"] == 408


def test_images_name_a_file_that_can_be_run() -> None:
    dockerfile = (PROJECT_ROOT / "infra" / "docker" / "Dockerfile").read_text()
    images = re.findall(r"^FROM code AS (ray|serve)\n(?:(?!FROM ).*\n)*", dockerfile, re.MULTILINE)
    named = re.findall(rf"{BINARY_SETTING}=/app/(\S+)", dockerfile)
    assert len(images) == len(named) == 2
    for path in named:
        assert Path(haproxy_module.__file__) == PROJECT_ROOT / path
        assert os.access(PROJECT_ROOT / path, os.X_OK)
