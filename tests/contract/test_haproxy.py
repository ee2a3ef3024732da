"""HAProxy as Ray Serve starts it, with the configuration that Ray writes, over servers that answer in Ray's way."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from make_us_rich.operations import haproxy as haproxy_module
from make_us_rich.operations.haproxy import BINARY_SETTING, launcher
from tests.support.fixed_response import fixed_response_server
from tests.support.folders import traversable_folder
from tests.support.processes import PROJECT_ROOT, free_port, running


@pytest.fixture
def folder() -> Iterator[Path]:
    with traversable_folder() as made:
        yield made


@contextmanager
def haproxy(folder: Path, gateways: list[str] | None) -> Iterator[str]:
    """In front of these gateways; None: Ray knows of no application yet. Gives its URL."""
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
    command = [str(launcher(folder)), "-db", "-f", f"{folder}/haproxy.cfg", "-dR"]
    with running(command, lambda: _listens(port), folder / "haproxy.log"):
        yield f"http://127.0.0.1:{port}"


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


def test_images_name_a_file_that_can_be_run() -> None:
    dockerfile = (PROJECT_ROOT / "infra" / "docker" / "Dockerfile").read_text()
    images = re.findall(r"^FROM code AS (ray|serve)\n(?:(?!FROM ).*\n)*", dockerfile, re.MULTILINE)
    named = re.findall(rf"{BINARY_SETTING}=/app/(\S+)", dockerfile)
    assert len(images) == len(named) == 2
    for path in named:
        assert Path(haproxy_module.__file__) == PROJECT_ROOT / path
        assert os.access(PROJECT_ROOT / path, os.X_OK)
