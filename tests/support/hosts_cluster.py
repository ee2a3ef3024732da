"""The installation of docker-compose.yml on several hosts.

head      Postgres, MLflow, Airflow, the replay exchange, Ray's head
store     S3
worker-1  Ray worker
worker-2  Ray worker
client    whoever calls the API; the tests themselves
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import JobResult
from make_us_rich.embedded import stores
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.operations.prepare import prepare_accounts, prepare_buckets
from make_us_rich.pipeline.ray_jobs import RayJobsClient, job_results
from tests.support.compose import all_compose_variables, compose_services
from tests.support.hosts import Host, hosts
from tests.support.processes import PROJECT_ROOT, responds, running
from tests.support.servers import BIN, MLFLOW_LOGIN, S3_KEYS, copy_mlflow_database
from tests.support.stored_candles import store_candles
from tests.support.waiting import wait_until

HEAD, STORE, WORKERS, CLIENT = "head", "store", ("worker-1", "worker-2"), "client"
_TOKEN = "mur_a-service-token-for-tests-on-hosts"
_POSTGRES_PASSWORD = "for-tests-only"
_HISTORY = 3000


@dataclass(frozen=True)
class Cluster:
    hosts: dict[str, Host]
    settings: Settings
    environment: dict[str, str]
    ray_headers: dict[str, str]

    @property
    def token(self) -> str:
        return _TOKEN

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of a call of the API."""
        return {"Authorization": f"Bearer {_TOKEN}"}

    def forecast_url(self, pair: str) -> str:
        return f"{self.settings.api_url}/v1/forecasts/{pair}"

    @property
    def addresses(self) -> dict[str, str]:
        """Return the name of the host of each address."""
        return {host.address: name for name, host in self.hosts.items()}

    def run(self, host: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command of the project on a host."""
        machine = self.hosts[host]
        return subprocess.run(
            machine.command([sys.executable, *command]),
            env=os.environ | self.environment | machine.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def store_candles(self, pairs: Sequence[str]) -> int:
        """Store the candles of pairs in S3, as the task `fetch` does; returns the newest close."""
        newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
        store_candles(self.settings, map(Pair.parse, pairs), newest_ms, _HISTORY)
        return newest_ms

    def train(self, job: str, pairs: Sequence[str], as_of_ms: int) -> None:
        """Submit a training job as the Airflow operator does."""
        command = (
            f"python -m ray_jobs.train_pairs --pairs {','.join(pairs)} --as-of-ms {as_of_ms} --submission-id {job}"
        )

        async def submit() -> None:
            async with self._jobs() as client:
                await client.submit(job, command, {})

        asyncio.run(submit())

    def status(self, job: str) -> str:
        async def find() -> str:
            async with self._jobs() as client:
                found = await client.find(job)
                return "" if found is None else found.status

        return asyncio.run(find())

    def log(self, job: str) -> str:
        async def read() -> str:
            async with self._jobs() as client:
                return await client.logs(job)

        return asyncio.run(read())

    def _jobs(self) -> RayJobsClient:
        return RayJobsClient(self.settings.ray_url, self.settings.ray_token.get_secret_value())

    def jobs(self) -> list[str]:
        """Return the names of the jobs that left a result in S3."""
        return sorted({key.split("/")[1] for key in ObjectStore.from_settings(self.settings).list_keys("jobs/")})

    def results(self, job: str) -> dict[str, JobResult]:
        return {str(result.pair): result for result in job_results(ObjectStore.from_settings(self.settings), job)}

    def alive_nodes(self) -> set[str]:
        """Return the hosts that Ray counts as alive."""
        answer = httpx.get(f"{self.settings.ray_url}/nodes?view=summary", headers=self.ray_headers, timeout=10)
        nodes = answer.raise_for_status().json()["data"]["summary"]
        return {self.addresses[node["ip"]] for node in nodes if node["raylet"]["state"] == "ALIVE"}

    def replicas(self) -> dict[str, list[str]]:
        """Return the hosts of the running replicas of each application."""
        answer = httpx.get(f"{self.settings.ray_url}/api/serve/applications/", headers=self.ray_headers, timeout=10)
        applications = answer.raise_for_status().json()["applications"]
        return {
            name: [
                self.addresses[replica["node_ip"]]
                for deployment in application["deployments"].values()
                for replica in deployment["replicas"]
                if replica["state"] == "RUNNING"
            ]
            for name, application in applications.items()
        }


@contextmanager
def cluster(more: dict[str, str]) -> Iterator[Cluster]:
    """Run the installation until the block ends. In the block, this thread's connections come from the client host."""
    with ExitStack() as contexts:
        # not below the project's own folders: each host has a /tmp of its own
        folder = Path(contexts.enter_context(tempfile.TemporaryDirectory(prefix="mur-", dir="/tmp")))
        folder.chmod(0o755)
        machines = contexts.enter_context(hosts(folder, [HEAD, *WORKERS, STORE, CLIENT]))
        contexts.enter_context(machines[CLIENT].entered())
        head = machines[HEAD]
        environment = _environment(head, machines[STORE]) | more
        database_url = contexts.enter_context(_postgres(head))
        environment["MUR_DATABASE_URL"] = database_url
        contexts.enter_context(_s3(machines[STORE]))
        prepare_buckets(environment["MUR_S3_ENDPOINT_URL"], *S3_KEYS, ("candles", "mlflow"))
        contexts.enter_context(_exchange(head))
        contexts.enter_context(_mlflow(head, environment))
        contexts.enter_context(_ray(head, environment, ["--head", "--port=6379", "--dashboard-host=0.0.0.0"]))
        settings = Settings(**{key.removeprefix("MUR_").lower(): value for key, value in environment.items()})
        headers = {"Authorization": f"Bearer {environment['MUR_RAY_TOKEN']}"}
        prepare_accounts(database_url, "a password for tests", _TOKEN, "")
        pairs_table.seed(Database(database_url), settings.pairs, settings.pooled_pairs)
        made = Cluster(machines, settings, environment, headers)
        wait_until(lambda: made.alive_nodes() == {HEAD}, 120, f"Ray's head does not start, see {head.folder}")
        for name in WORKERS:
            contexts.enter_context(_ray(machines[name], environment, [f"--address={head.address}:6379"]))
        wait_until(lambda: made.alive_nodes() == {HEAD, *WORKERS}, 120, "the workers do not join")
        wait_until(lambda: responds(f"{settings.mlflow_url}/health"), 120, "MLflow does not start")
        try:
            yield made
        finally:
            if keep := os.environ.get("MUR_KEEP_LOGS"):
                subprocess.run(["cp", "-rT", str(folder), keep], check=False)


def _environment(head: Host, store: Host) -> dict[str, str]:
    """Return the settings of docker-compose.yml's Ray worker, with the addresses of these hosts."""
    services = compose_services(all_compose_variables())
    ray = {key: value for key, value in services["ray-worker"]["environment"].items() if key.startswith("RAY_")}
    at_head = f"http://{head.address}"
    return {
        **ray,
        "PYTHONPATH": str(PROJECT_ROOT),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(PROJECT_ROOT / "make_us_rich" / "operations" / "haproxy.py"),
        "MUR_MARKET": "simulated",
        "MUR_HISTORY_CANDLES": str(_HISTORY),
        "MUR_EXCHANGE_URL": f"{at_head}:8900",
        "MUR_S3_ENDPOINT_URL": f"http://{store.address}:8333",
        "MUR_S3_ACCESS_KEY": S3_KEYS[0],
        "MUR_S3_SECRET_KEY": S3_KEYS[1],
        "MUR_MLFLOW_URL": f"{at_head}:5000",
        "MUR_MLFLOW_USER": MLFLOW_LOGIN[0],
        "MUR_MLFLOW_PASSWORD": MLFLOW_LOGIN[1],
        "MUR_RAY_URL": f"{at_head}:8265",
        "MUR_RAY_TOKEN": ray["RAY_AUTH_TOKEN"],
        "AIRFLOW_CONN_RAY_DEFAULT": json.dumps(
            {"conn_type": "http", "host": f"{at_head}:8265", "password": ray["RAY_AUTH_TOKEN"]}
        ),
        "MUR_API_URL": f"{at_head}:8000",
        "MUR_REPLICA_CPUS": "0",
        "MUR_SERVICE_TOKEN": _TOKEN,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }


@contextmanager
def _postgres(host: Host) -> Iterator[str]:
    options = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "listen_addresses": "*"}
    data = host.folder / "postgres"
    server = stores.prepare_postgres(data, port=5432, password=_POSTGRES_PASSWORD, options=options)
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all samenet scram-sha-256\n")
    url = server.url.replace("127.0.0.1", host.address)
    ready = stores.PostgresServer(server.command, server.user, url).is_ready
    with running(host.command(server.command, server.user), ready, host.folder / "postgres.log"):
        yield url


@contextmanager
def _s3(host: Host) -> Iterator[None]:
    identities, sockets = host.folder / "s3.json", host.folder / "s3-sockets"
    stores.write_s3_identity(identities, *S3_KEYS)
    sockets.mkdir()
    data = host.folder / "s3"
    data.mkdir()
    ports = {name: 8333 + number for number, name in enumerate(stores.S3_PORTS)}
    command = [
        part.replace("-ip.bind=127.0.0.1", "-ip.bind=0.0.0.0")
        for part in stores.s3_command(data, sockets, identities, ports)
    ]
    with running(
        host.command(command),
        f"http://{host.address}:8333/healthz",
        host.folder / "s3.log",
        stores.s3_signing_keys("for tests only") | host.environment(),
    ):
        yield


@contextmanager
def _exchange(host: Host) -> Iterator[None]:
    command = [sys.executable, "-m", "infra.exchange", "--host=0.0.0.0", "--port=8900"]
    url = f"http://{host.address}:8900/api/v3/ping"
    with running(host.command(_at_project(command)), url, host.folder / "exchange.log", host.environment()):
        yield


@contextmanager
def _mlflow(host: Host, environment: dict[str, str]) -> Iterator[None]:
    database = host.folder / "mlflow.db"
    copy_mlflow_database(database)
    command = [sys.executable, "-m", "infra.mlflow_server", "--host=0.0.0.0", "--port=5000"]
    command += ["--artifacts-destination=s3://mlflow"]
    own = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{database}",
        "MLFLOW_S3_ENDPOINT_URL": environment["MUR_S3_ENDPOINT_URL"],
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
        "AWS_ACCESS_KEY_ID": S3_KEYS[0],
        "AWS_SECRET_ACCESS_KEY": S3_KEYS[1],
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    log = host.folder / "mlflow.log"
    with running(host.command(_at_project(command)), _at_once, log, environment | own | host.environment()):
        yield


@contextmanager
def _ray(host: Host, environment: dict[str, str], options: Sequence[str]) -> Iterator[None]:
    """Start Ray as docker-compose.yml does, with less memory and one CPU."""
    log = host.folder / "ray.log"
    command = [str(BIN / "ray"), "start", "--block", "--disable-usage-stats", "--object-store-memory=100000000"]
    command += [f"--temp-dir={host.folder / 'ray'}", f"--num-cpus={0 if '--head' in options else 1}", *options]
    restarting = ["sh", "-c", 'while :; do "$@"; sleep 1; done', "sh", *command]  # as `restart: unless-stopped`
    own = host.environment() | {"MUR_CACHE_FOLDER": str(host.folder / "cache")}
    with running(host.command(_at_project(restarting)), _at_once, log, environment | own):
        yield


def _at_once() -> bool:
    """Servers that take long to start do so at the same time; `cluster` waits for them."""
    return True


def _at_project(command: Sequence[str]) -> list[str]:
    return ["env", f"--chdir={PROJECT_ROOT}", *command]
