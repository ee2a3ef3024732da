"""The real servers that serving stands on, one context manager each."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from make_us_rich.embedded import stores
from make_us_rich.operations.haproxy import BINARY_SETTING, launcher
from tests.support.processes import free_port, running

BIN = Path(sys.executable).parent
S3_KEYS = ("an-access-key", "a-secret-key")
RAY_TOKEN = "a-token-for-tests-of-the-serving-contract"
MLFLOW_LOGIN = ("make_us_rich", "development-only")


@contextmanager
def postgres_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """A database, empty at first; gives its URL."""
    server = stores.prepare_postgres(folder / "postgres", port=port or free_port(), password="for-tests-only")
    log = folder / "postgres.log"
    with running(server.command, server.is_ready, log, user=server.user) as process:
        yield server.url
        process.send_signal(signal.SIGINT)  # without waiting for clients to leave


@contextmanager
def s3_server(folder: Path, config: Path | None = None, ports: Mapping[str, int] | None = None) -> Iterator[str]:
    """SeaweedFS as the embedded stack runs it, with S3_KEYS or the keys of `config`; gives its URL."""
    if config is None:
        config = folder / "s3.json"
        stores.write_s3_identity(config, *S3_KEYS)
    ports = ports or {name: free_port() for name in stores.S3_PORTS}
    sockets = Path(tempfile.mkdtemp(prefix="mur-"))  # pytest's folders have names too long for a socket
    url = f"http://127.0.0.1:{ports['s3']}"
    keys = stores.s3_signing_keys("for tests only")
    try:
        command = stores.s3_command(folder, sockets, config, ports)
        with running(command, f"{url}/healthz", folder / "weed.log", keys):
            yield url
    finally:
        shutil.rmtree(sockets)


@contextmanager
def exchange_server(folder: Path) -> Iterator[str]:
    """The replay exchange with its simulated market; gives its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "infra.exchange", "--port", str(port)]
    with running(command, f"{url}/api/v3/ping", folder / "exchange.log"):
        yield url


@contextmanager
def discord_server(folder: Path) -> Iterator[str]:
    """The stand-in of Discord's webhooks; gives its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "infra.discord", "--port", str(port)]
    with running(command, f"{url}/healthz", folder / "discord.log"):
        yield url


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow server over SQLite and local files, with MLFLOW_LOGIN; gives its URL.

    The log-in is what settings have in development. `mlflow` itself uses it in this process from here on.
    """
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "infra.mlflow_server", "--port", str(port)]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MUR_MLFLOW_USER": MLFLOW_LOGIN[0],
        "MUR_MLFLOW_PASSWORD": MLFLOW_LOGIN[1],
    }
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = MLFLOW_LOGIN
    with running(command, f"{url}/health", folder / "mlflow.log", environment, timeout_s=120):
        yield url


@contextmanager
def ray_head(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """A Ray head with token authentication and Serve in HAProxy mode; gives its dashboard's URL.

    Its logs lie in `folder`/ray/session_latest/logs.
    """
    url = f"http://127.0.0.1:{(dashboard := free_port())}"
    command = [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", f"--port={free_port()}", "--dashboard-host=127.0.0.1"]
    command += [f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}"]
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={free_port()}"]
    command += ["--min-worker-port=0", "--max-worker-port=0", "--num-cpus=2"]
    command += ["--object-store-memory=100000000", f"--temp-dir={folder / 'ray'}"]

    def ready() -> bool:
        headers = {"Authorization": f"Bearer {RAY_TOKEN}"}
        try:
            return httpx.get(f"{url}/api/gcs_healthz", headers=headers, timeout=2).is_success
        except httpx.HTTPError:
            return False

    serve_environment = _serve_environment(folder / "haproxy")
    environment = {**serve_environment, "MUR_RAY_URL": url, **environment}
    with running(command, ready, folder / "ray.log", environment, timeout_s=120):
        yield url


def _serve_environment(haproxy: Path) -> dict[str, str]:
    # above the stacks' ports, below the range that free ports come from, and apart from the other test process's
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    direct = 24_000 + process % 4 * 2_000 + random.randrange(0, 2_000, 250)
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": RAY_TOKEN,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        BINARY_SETTING: str(launcher(haproxy)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{haproxy}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{haproxy}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{haproxy}/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{haproxy}/server-state",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_RETRIES": "10",
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(direct),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(direct + 100),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(direct + 101),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(direct + 200),
    }
