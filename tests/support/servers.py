"""The real servers that tests use, one context manager each.

Tests share what is slow to start, so these are the fast ways:
- `migrated_database`, `empty_database`: a database of its own on the process's one Postgres.
- `mlflow_server`, `s3_server`: a server of this process that no other test uses, emptied when it is given.
- `exchange_server`, `discord_server`: a thread of this process.

A test that needs a server with other options, or that stops it, starts its own: `own_mlflow_server`, `own_s3_server`,
`postgres_server`. `prepared_copy` keeps files that are slow to make, such as MLflow's database.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from make_us_rich.database.migrations import migrate
from make_us_rich.database.pool import connect
from make_us_rich.embedded import stores
from make_us_rich.operations.haproxy import BINARY_SETTING, launcher
from tests.support.folders import traversable_folder
from tests.support.ports import serve_ports
from tests.support.processes import PROJECT_ROOT, free_port, responds, running

if TYPE_CHECKING:
    from infra.exchange.simulated import SimulatedMarket

BIN = Path(sys.executable).parent
S3_KEYS = ("an-access-key", "a-secret-key")
RAY_TOKEN = "a-token-for-tests-of-the-serving-contract"
MLFLOW_LOGIN = ("make_us_rich", "development-only")


_shared = ExitStack()  # what all tests of this process use; `stop_shared_servers` ends it
_database_numbers = count(1)


@dataclass(frozen=True)
class _Reusable:
    """A server that serves one test after the other. `wipe` deletes all that it holds."""

    url: str
    wipe: Callable[[], None]


_idle_mlflow: list[_Reusable] = []
_idle_s3: list[_Reusable] = []
_mlflow_databases: dict[str, Path] = {}


@contextmanager
def _reused(idle: list[_Reusable], start: Callable[[], AbstractContextManager[_Reusable]]) -> Iterator[str]:
    """Give the URL of a server that nobody else uses, emptied; starts another one if all are in use.

    Only an idle server is emptied: whoever still uses one has taken it out of `idle`.
    """
    server = idle.pop() if idle else _shared.enter_context(start())
    server.wipe()
    yield server.url
    idle.append(server)  # not after a failure, which may have left requests under way


@contextmanager
def postgres_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """Run a Postgres of its own; gives the URL of its empty database."""
    # Nothing is kept after the test, so nothing has to reach the disk.
    options = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    port = port or free_port()
    server = stores.prepare_postgres(folder / "postgres", port=port, password="for-tests-only", options=options)
    log = folder / "postgres.log"
    with running(server.command, server.is_ready, log, user=server.user) as process:
        yield server.url
        process.send_signal(signal.SIGINT)  # stop without waiting for clients


@contextmanager
def migrated_database() -> Iterator[str]:
    """Create a database with this version's tables on the shared Postgres; gives its URL."""
    with empty_database(template="migrated") as url:
        yield url


@contextmanager
def empty_database(template: str = "template1") -> Iterator[str]:
    """Create a database without tables on the shared Postgres; gives its URL."""
    server_url = _shared_postgres()
    name = f"test_{next(_database_numbers)}"
    _execute(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield _database_url(server_url, name)
    finally:
        _execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@cache
def _shared_postgres() -> str:
    """Start the Postgres of this process, with the template that `migrated_database` copies; returns its URL."""
    folder = _shared.enter_context(traversable_folder())
    url = _shared.enter_context(postgres_server(folder))
    _execute(url, "CREATE DATABASE migrated")
    migrate(_database_url(url, "migrated"))
    return url


def _database_url(server_url: str, name: str) -> str:
    return f"{server_url.rpartition('/')[0]}/{name}"


def _execute(url: str, statement: str) -> None:
    # without a transaction, which CREATE DATABASE refuses
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


def stop_shared_servers() -> None:
    """Stop the servers that all tests of this process used."""
    _shared.close()


def prepared_copy(target: Path, name: str, make: Callable[[Path], None]) -> None:
    """Copy a prepared file or folder to `target`. The first caller makes it, with `make`, for all test processes."""
    folder = PROJECT_ROOT / ".pytest_cache" / "prepared"
    folder.mkdir(parents=True, exist_ok=True)
    prepared = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not prepared.exists():
            unfinished = folder / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.unlink(missing_ok=True)
            make(unfinished)
            unfinished.rename(prepared)
    if prepared.is_dir():
        shutil.copytree(prepared, target, dirs_exist_ok=True)
    else:
        shutil.copy(prepared, target)


@contextmanager
def s3_server() -> Iterator[str]:
    """Lend an empty SeaweedFS, with S3_KEYS; gives its URL."""
    with _reused(_idle_s3, _reusable_s3) as url:
        yield url


@contextmanager
def _reusable_s3() -> Iterator[_Reusable]:
    with traversable_folder() as folder, own_s3_server(folder) as url:
        yield _Reusable(url, partial(_delete_buckets, url))


def _delete_buckets(url: str) -> None:
    from minio import Minio  # takes time, which most files do not need

    client = Minio(endpoint=url.removeprefix("http://"), access_key=S3_KEYS[0], secret_key=S3_KEYS[1], secure=False)
    for bucket in client.list_buckets():
        client.remove_bucket(bucket_name=bucket.name)  # SeaweedFS deletes its objects too
    assert client.list_buckets() == []


@contextmanager
def own_s3_server(folder: Path, config: Path | None = None, ports: Mapping[str, int] | None = None) -> Iterator[str]:
    """Run SeaweedFS as the embedded stack does, with S3_KEYS or the keys of `config`; gives its URL."""
    if config is None:
        config = folder / "s3.json"
        stores.write_s3_identity(config, *S3_KEYS)
    ports = ports or {name: free_port() for name in stores.S3_PORTS}
    sockets = Path(tempfile.mkdtemp(prefix="mur-"))  # the paths of pytest's folders are too long for a socket
    url = f"http://127.0.0.1:{ports['s3']}"
    keys = stores.s3_signing_keys("for tests only")
    try:
        command = stores.s3_command(folder, sockets, config, ports)
        with running(command, f"{url}/healthz", folder / "weed.log", keys) as process:
            yield url
            process.kill()  # asked to end, it takes two seconds
    finally:
        shutil.rmtree(sockets)


@contextmanager
def exchange_server() -> Iterator[str]:
    """Run the replay exchange with its simulated market, in a thread; gives its URL."""
    from infra.exchange.server import create_app
    from tests.support.app_threads import running_app

    with running_app(create_app(_simulated_market(), "SIMULATED")) as url:
        yield url


@cache
def _simulated_market() -> SimulatedMarket:
    """Return the market of all exchanges of this process: its candles never change, and take seconds to compute."""
    from infra.exchange.simulated import simulate
    from infra.exchange.universe import UNIVERSE

    market = simulate(time.time_ns() // 1_000_000, universe=UNIVERSE)
    list(market.values())  # now, because no client waits so long on a busy machine
    return market


@contextmanager
def discord_server() -> Iterator[str]:
    """Run the stand-in for Discord's webhooks, in a thread; gives its URL."""
    from infra.discord import create_app
    from tests.support.app_threads import running_app

    with running_app(create_app()) as url:
        yield url


@contextmanager
def mlflow_server() -> Iterator[str]:
    """Lend an empty MLflow server on SQLite and local files, with MLFLOW_LOGIN; gives its URL.

    The log-in is that of the settings in development. `mlflow` uses it in this process from now on.
    """
    with _reused(_idle_mlflow, _reusable_mlflow) as url:
        yield url


@contextmanager
def _reusable_mlflow() -> Iterator[_Reusable]:
    with traversable_folder() as folder, own_mlflow_server(folder) as url:
        _mlflow_databases[url] = folder / "mlflow.db"
        shutil.copy(folder / "mlflow.db", folder / "empty.db")  # with the experiment that MLflow makes at its start
        yield _Reusable(url, partial(_empty_mlflow, url, folder))


def mlflow_database(url: str) -> Path:
    """Return the SQLite file of a server that `mlflow_server` gave."""
    return _mlflow_databases[url]


def _empty_mlflow(url: str, folder: Path) -> None:
    """Write the empty database over that of the running server, in one transaction, and delete the files."""
    empty, used = sqlite3.connect(folder / "empty.db"), sqlite3.connect(folder / "mlflow.db", timeout=60)
    with closing(empty), closing(used):
        empty.backup(used)
    shutil.rmtree(folder / "artifacts", ignore_errors=True)
    assert responds(f"{url}/health"), "the MLflow of this process has ended: a test that stops it needs an own one"


@contextmanager
def own_mlflow_server(folder: Path) -> Iterator[str]:
    """Run an MLflow server of its own, with its database and artifacts in `folder`; gives its URL."""
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
    copy_mlflow_database(folder / "mlflow.db")
    with running(command, f"{url}/health", folder / "mlflow.log", environment, timeout_s=120):
        yield url


def copy_mlflow_database(target: Path) -> None:
    """Write an SQLite database that MLflow has migrated."""
    prepared_copy(target, f"mlflow-{version('mlflow')}.db", _make_mlflow_database)


def _make_mlflow_database(file: Path) -> None:
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{file}"]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def ray_head(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a Ray head with token authentication and Serve in HAProxy mode; gives its dashboard's URL.

    Its logs are in `folder`/ray/session_latest/logs.
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

    here = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(PROJECT_ROOT)}  # of the jobs' `python`
    environment = {**serve_environment(folder / "haproxy"), **here, "MUR_RAY_URL": url, **environment}
    with running(command, ready, folder / "ray.log", environment, timeout_s=120):
        yield url


def serve_environment(haproxy: Path) -> dict[str, str]:
    """Return the variables of Serve in HAProxy mode, with ports of its own."""
    direct = serve_ports()
    http, grpc = direct[: len(direct) // 2], direct[len(direct) // 2 :]
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": RAY_TOKEN,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",  # 30 s otherwise, for the load balancers of others
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # an actor of every training run; no node of a test is preempted
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
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response response-timeout",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "35",
        "RAY_SERVE_HAPROXY_RETRIES": "10",
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # else the same in every cluster of this machine
        "AUTOSCALER_METRIC_PORT": str(free_port()),
        "DASHBOARD_METRIC_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(http[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(http[-1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(grpc[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(grpc[-1]),
    }
