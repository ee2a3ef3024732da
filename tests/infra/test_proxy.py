"""Debian's nginx with the container's configuration, under slow clients, large bodies, floods and forged headers."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from tests.support.folders import traversable_folder
from tests.support.processes import PROJECT_ROOT, free_port, running
from tests.support.servers import BIN

pytestmark = pytest.mark.timeout(120)

SCRIPT = PROJECT_ROOT / "infra" / "docker" / "proxy.sh"
PORTS = ("CHECK", "DASH", "API", "AIRFLOW", "GRAFANA", "PGADMIN")
BEHIND = '''
import json
def app(environ, start_response):
    """Respond with the request's headers and client address."""
    body = environ["wsgi.input"].read()
    seen = {key: value for key, value in environ.items() if key.startswith("HTTP_")}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen | {"bytes": len(body), "path": environ["PATH_INFO"]}).encode()]
'''


@dataclass(frozen=True)
class Proxied:
    ports: Mapping[str, int]
    behind: str  # URL of the service without the proxy
    scheme: str = "http"
    cut_off_s: Future[float] | None = None  # after how long a request that never ends is cut off

    def url(self, name: str, path: str = "/") -> str:
        return f"{self.scheme}://127.0.0.1:{self.ports[name]}{path}"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with traversable_folder() as made:
        yield made


@pytest.fixture(scope="module")
def behind(folder: Path) -> Iterator[str]:
    """Run gunicorn with two processes of eight threads, which half-open connections alone would exhaust."""
    (folder / "behind.py").write_text(BEHIND)
    port = free_port()
    command = [str(BIN / "gunicorn"), f"--bind=127.0.0.1:{port}", "--workers=2", "--threads=8"]
    command += [f"--chdir={folder}", "behind:app"]
    with running(command, f"http://127.0.0.1:{port}/", folder / "behind.log"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def nginx(folder: Path, behind: str, **variables: str) -> Iterator[Proxied]:
    ports = {name: free_port() for name in PORTS}
    environment = {f"PROXY_{name}_PORT": str(port) for name, port in ports.items()}
    environment |= {f"PROXY_{name}": behind for name in ("DASH", "API", "AIRFLOW", "GRAFANA", "PGADMIN")}
    environment |= {"PROXY_FOLDER": str(folder), "PROXY_RESOLVER": "127.0.0.1", **variables}
    with running([str(SCRIPT)], f"http://127.0.0.1:{ports['CHECK']}", folder / "nginx.log", environment):
        yield Proxied(ports, behind)


@pytest.fixture(scope="module")
def proxied(folder: Path, behind: str) -> Iterator[Proxied]:
    """The proxy with plain HTTP. Its first request never ends, because to wait for its end takes ten seconds."""
    (folder / "plain").mkdir()
    with nginx(folder / "plain", behind) as made, ThreadPoolExecutor() as pool:
        yield replace(made, cut_off_s=pool.submit(_seconds_until_cut_off, made.ports["DASH"]))


def _seconds_until_cut_off(port: int) -> float:
    (slow,) = _half_open(port, 1)
    with slow:
        began = time.monotonic()
        slow.settimeout(50)  # less than nginx waits by default
        with suppress(ConnectionResetError):
            while slow.recv(1000):
                pass
        return time.monotonic() - began


def _half_open(port: int, count: int) -> list[socket.socket]:
    """Hold connections open whose request never ends."""
    opened = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(count)]
    for number, connection in enumerate(opened):
        head = b"POST /login HTTP/1.1\r\nHost: a\r\n" + (b"Content-Length: 1000\r\n\r\nx" if number % 2 else b"")
        connection.sendall(head)
    return opened


def test_half_open_connections_do_not_stop_the_dashboard(proxied: Proxied) -> None:
    """Without the proxy, sixty such connections stop gunicorn, and often ten do."""
    with ExitStack() as held:
        for connection in _half_open(proxied.ports["DASH"], 60):
            held.enter_context(connection)
        time.sleep(0.5)
        for _ in range(10):
            assert httpx.get(proxied.url("DASH"), timeout=20).status_code == 200


@pytest.mark.parametrize(("name", "most"), [("DASH", 2_000_000), ("API", 1_000_000), ("AIRFLOW", 2_000_000)])
def test_a_big_body_is_refused_before_a_service_sees_it(proxied: Proxied, name: str, most: int) -> None:
    passes = httpx.post(proxied.url(name), content=b"x" * (most - 1000))
    assert passes.json()["bytes"] == most - 1000
    refused = httpx.post(proxied.url(name), content=b"x" * (most * 2))
    assert refused.status_code == 413
    if name == "API":
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json()["status"] == 413


def test_who_asks_cannot_be_made_up(proxied: Proxied) -> None:
    lies = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "for=203.0.113.9",
    }
    seen = httpx.get(proxied.url("DASH"), headers=lies).json()
    assert seen["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert seen["HTTP_X_FORWARDED_PROTO"] == "http"
    assert seen["HTTP_X_FORWARDED_HOST"] == f"127.0.0.1:{proxied.ports['DASH']}"
    assert not {"HTTP_FORWARDED", "HTTP_X_FORWARDED_PREFIX"} & seen.keys()


def test_a_trusted_proxy_in_front_is_believed(folder: Path, behind: str) -> None:
    (folder / "trusting").mkdir()
    with nginx(folder / "trusting", behind, PROXY_TRUSTED="127.0.0.0/8 10.0.0.0/8") as trusting:
        given = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9, 10.1.1.1", "X-Forwarded-Proto": "https"}
        answer = httpx.get(trusting.url("AIRFLOW"), headers=given)
        assert answer.json()["HTTP_X_FORWARDED_FOR"] == "203.0.113.9"
        assert answer.json()["HTTP_X_FORWARDED_PROTO"] == "https"
        assert answer.headers["Strict-Transport-Security"]


def test_guesses_of_passwords_are_slowed_down_and_pages_are_not(folder: Path, behind: str) -> None:
    (folder / "guessed").mkdir()
    with nginx(folder / "guessed", behind) as guessed:
        for name, path in (("DASH", "/login"), ("AIRFLOW", "/auth/token")):
            answers = [httpx.post(guessed.url(name, path)).status_code for _ in range(30)]
            assert answers[0] == 200
            assert answers[-1] == 429
            assert httpx.get(guessed.url(name, path)).status_code == 200


def test_one_address_cannot_flood_the_api(folder: Path, behind: str) -> None:
    (folder / "flooded").mkdir()
    with nginx(folder / "flooded", behind, PROXY_API_RATE="2") as flooded, httpx.Client() as client:
        began = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: client.get(flooded.url("API", "/v1/pairs")), range(300)))
        refused = [answer for answer in answers if answer.status_code == 429]
        at_once, meanwhile = 201, 2 * (time.monotonic() - began)
        assert 190 <= sum(answer.status_code == 200 for answer in answers) <= at_once + meanwhile + 1
        assert refused[0].headers["Content-Type"] == "application/problem+json"
        assert refused[0].headers["Retry-After"] == "1"
        assert "2 requests a second" in refused[0].json()["detail"]


def test_an_api_that_is_away_is_a_problem_document(folder: Path) -> None:
    (folder / "away").mkdir()
    with nginx(folder / "away", f"http://127.0.0.1:{free_port()}") as away:
        answer = httpx.get(away.url("API", "/v1/forecasts/btc_usdt"))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:make-us-rich:problem:unavailable"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 400),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ],
    ids=["line", "case", "host", "length", "address", "headers", "method"],
)
def test_what_the_api_cannot_read_is_a_problem_document(proxied: Proxied, raw: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", proxied.ports["API"]), timeout=30) as connection:
        connection.sendall(raw)
        received = b""
        while b"}" not in received and (part := connection.recv(65536)):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status, head
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["status"] == status


def test_airflows_execution_api_is_not_published(proxied: Proxied) -> None:
    assert httpx.get(proxied.url("AIRFLOW", "/execution/health")).status_code == 404
    assert httpx.get(proxied.url("AIRFLOW", "/api/v2/version")).status_code == 200


def test_a_secret_of_an_address_is_not_logged(proxied: Proxied, folder: Path) -> None:
    httpx.get(proxied.url("DASH", "/set-password/a-secret-of-a-link?token=another-secret"))
    time.sleep(0.2)
    log = (folder / "plain" / "nginx.log").read_text()
    assert "/set-password/..." in log
    assert "secret" not in log


def test_tls_is_on_once_there_is_a_certificate(folder: Path, behind: str) -> None:
    (home := folder / "tls").mkdir()
    certificate, key = home / "certificate.pem", home / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    files = {"PROXY_CERTIFICATE": str(certificate), "PROXY_KEY": str(key)}
    with nginx(home, behind, **files) as plain:
        secured = Proxied(plain.ports, behind, "https")
        context = ssl.create_default_context(cafile=certificate)
        for name in ("DASH", "API", "AIRFLOW", "GRAFANA", "PGADMIN"):
            seen = httpx.get(secured.url(name), verify=context).json()
            assert seen["HTTP_X_FORWARDED_PROTO"] == "https"
            assert httpx.get(plain.url(name)).status_code == 400  # plain HTTP on a TLS port


def test_a_key_that_cannot_be_read_is_named(folder: Path, behind: str) -> None:
    (home := folder / "unreadable").mkdir()
    (home / "certificate.pem").write_text("something")
    environment = {"PROXY_CERTIFICATE": str(home / "certificate.pem"), "PROXY_KEY": str(home / "no.pem")}
    with pytest.raises(AssertionError, match=r"TLS_KEY: .* cannot be read"), nginx(home, behind, **environment):
        pass


def test_a_slow_request_is_cut_off(proxied: Proxied) -> None:
    """The last test that uses this proxy, so that little is left to wait for."""
    assert proxied.cut_off_s is not None
    assert proxied.cut_off_s.result() > 5


def test_the_image_runs_what_is_tested_here() -> None:
    text = (PROJECT_ROOT / "infra" / "docker" / "Dockerfile").read_text()
    assert "COPY infra/docker/proxy.sh infra/docker/nginx.conf /etc/proxy/" in text
    assert json.dumps(["/etc/proxy/proxy.sh"]) in text
