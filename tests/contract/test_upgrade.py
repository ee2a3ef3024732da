"""An embedded stack's state as version 0.1.0 left it, brought to this version as `mkrich up` does, and then served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from make_us_rich.accounts import Accounts
from make_us_rich.accounts.credentials import hash_password, skeleton
from make_us_rich.accounts.tokens import digest
from make_us_rich.client import Client
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import BITCOIN
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.migrations import SQL_FOLDER, migrate
from make_us_rich.database.pool import Database
from make_us_rich.embedded.lifecycle import open_stack
from make_us_rich.embedded.stack_config import saved_stack_config
from make_us_rich.operations.prepare import prepare_accounts
from make_us_rich.pipeline.deployment import models_to_serve
from make_us_rich.registry.client import CHAMPION
from serve_app.api.app import make_app
from tests.support.accounts import transaction
from tests.support.app_threads import running_app
from tests.support.clocks import stopped_clocks
from tests.support.local_replica_client import LocalReplicaClient
from tests.support.registry import register_graph
from tests.support.servers import empty_database, mlflow_server
from tests.support.tiny_model import tiny_model

pytestmark = pytest.mark.timeout(180)

LAST_MIGRATION = "0010"  # of version 0.1.0
SECRETS = {
    "postgres_password": "of-postgres",
    "s3_access_key": "0123456789abcdef0123",
    "s3_secret_key": "of-s3",
    "s3_signing_key": "of-s3-too",
    "mlflow_password": "of-mlflow",
    "secret_key": "of-the-dashboard",
    "service_token": "mur_of-the-service",
    "dashboard_token": "mur_of-the-dashboard",
    "ray_token": "of-ray",
    "airflow_fernet_key": "of-airflow",
    "airflow_jwt_secret": "of-airflow-too",
    "airflow_api_secret": "of-airflows-api",
    "admin_password": "f00dcafe1234",
    "demo_password": "f00dcafe5678",
}
PASSWORD, TOKEN = "a password of last year", "mur_of-grace-since-last-year"


@dataclass(frozen=True)
class Upgraded:
    """What a user of the stack has after the upgrade: the API, the accounts, and the tables."""

    url: str
    database: Database
    now_ms: int


def _write_folder(home: Path) -> None:
    """Write the state folder of version 0.1.0, which had no identity and no choice of intervals."""
    state = home / "simulated"
    state.mkdir()
    (home / "current.json").write_text(
        json.dumps({"market": "simulated", "state": str(state), "port_base": "20000"}, indent=1)
    )
    (state / "secrets.json").write_text(json.dumps(SECRETS, indent=1))


def _write_database(url: str, folder: Path, now_ms: int) -> None:
    """Make the tables of version 0.1.0, and the rows of an admin, a member, a pair and an hour of forecasts."""
    for file in SQL_FOLDER.glob("*.sql"):
        if file.name[:4] <= LAST_MIGRATION:
            shutil.copy(file, folder)
    migrate(url, folder)
    with transaction(url) as cursor:
        users = (("admin", SECRETS["admin_password"], "admin"), ("grace", PASSWORD, "member"))
        for name, password, role in users:
            cursor.execute(
                "WITH made AS (INSERT INTO users (name, look, password_hash) VALUES (%s, %s, %s) RETURNING user_id) "
                "INSERT INTO user_roles (user_id, role_id) SELECT user_id, role_id FROM made, roles WHERE name = %s",
                (name, skeleton(name), hash_password(password), role),
            )
        cursor.execute(
            "INSERT INTO api_tokens (user_id, name, prefix, token_hash) "
            "SELECT user_id, 'script', 'mur_of', %s FROM users WHERE name = 'grace'",
            (digest(TOKEN),),
        )
        cursor.execute(
            "INSERT INTO monthly_consumptions (user_id, month, calls) "
            "SELECT user_id, date_trunc('month', now()), 41 FROM users WHERE name = 'grace'"
        )
        cursor.execute("INSERT INTO pairs (pair, plan) VALUES (%s, 'dedicated')", (BITCOIN,))
        as_of_ms = now_ms // HOUR_MS * HOUR_MS - HOUR_MS
        cursor.execute(
            "INSERT INTO forecasts (market, pair, interval, target_open_ms, model_version, as_of_ms, last_close, "
            "q05, q10, q25, q50, q75, q90, q95, made_at) "
            "VALUES ('simulated', %s, '1h', %s, 1, %s, 100, 95, 96, 98, 100, 102, 104, 105, to_timestamp(%s))",
            (BITCOIN, as_of_ms, as_of_ms, as_of_ms / 1000 + 60),
        )


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory, exchange_url: str) -> Iterator[Upgraded]:
    """Upgrade the state, and serve it as a start of the stack does."""
    home, sql = tmp_path_factory.mktemp("stack"), tmp_path_factory.mktemp("sql")
    with (
        empty_database() as database_url,
        mlflow_server() as mlflow_url,
        stopped_clocks(exchange_url) as now_ms,
        pytest.MonkeyPatch.context() as patch,
    ):
        _write_folder(home)
        _write_database(database_url, sql, now_ms)
        mlflow.set_tracking_uri(mlflow_url)
        graph = tiny_model(BITCOIN, as_of_ms=now_ms - HOUR_MS, horizons=0)
        name = f"{BITCOIN}_1h"
        tags = {"as_of_ms": str(now_ms - HOUR_MS), "market": "simulated", "architecture": "lstm"}
        tags |= {"skill_vs_naive": "0.02", "coverage_80": "0.8"}
        MlflowClient().create_registered_model(name)
        version = register_graph(name, graph, tags)
        MlflowClient().set_registered_model_alias(name, CHAMPION, str(version))

        patch.setenv("MUR_STACK_HOME", str(home))
        config = saved_stack_config()
        assert config is not None
        stack = open_stack(config)
        secrets = stack.secrets
        prepare_accounts(database_url, secrets.admin_password, secrets.service_token, secrets.dashboard_token)
        settings = Settings(
            market="simulated",
            database_url=database_url,
            mlflow_url=mlflow_url,
            exchange_url=exchange_url,
            cache_folder=str(home / "serving"),
        )
        database = Database(database_url)
        models = models_to_serve(settings, pairs_table.active(database))
        served = {
            series.name: {"name": model.name, "version": model.version, "run_id": model.run_id}
            for series, model in models.items()
        }
        assert set(served) == {name}
        app = make_app(settings, LocalReplicaClient(settings, served), Accounts(database))
        with running_app(app) as url, database:
            yield Upgraded(url, database, now_ms)


def test_secrets_and_settings_of_the_first_start_are_kept(
    upgraded: Upgraded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_folder(tmp_path)
    monkeypatch.setenv("MUR_STACK_HOME", str(tmp_path))
    config = saved_stack_config()
    assert config is not None
    stack = open_stack(config)

    assert {name: getattr(stack.secrets, name) for name in SECRETS} == SECRETS
    assert (config.port_base, config.state) == (20_000, tmp_path / "simulated")
    assert stack.environment["MUR_SERVICE_TOKEN"] == SECRETS["service_token"]


def test_a_users_token_gets_a_forecast_of_the_old_champion(upgraded: Upgraded) -> None:
    with Client(upgraded.url, TOKEN) as client:
        forecast = client.forecast(BITCOIN)
        usage = client.usage()

    assert (forecast.model.name, forecast.model.version) == (f"{BITCOIN}_1h", 1)
    assert forecast.quantiles["q05"] < forecast.last_close < forecast.quantiles["q95"]
    assert [item.horizon for item in forecast.horizons] == [1]
    assert usage.used == 42, "the calls of the month were forgotten"


def test_passwords_and_recorded_forecasts_are_still_there(upgraded: Upgraded) -> None:
    with Accounts(upgraded.database) as accounts:
        assert accounts.users.authenticate("Grace", PASSWORD).name == "grace"
        assert accounts.users.authenticate("admin", SECRETS["admin_password"]).is_admin
    with Client(upgraded.url, TOKEN) as client:
        past = client.history(BITCOIN, 100)

    assert [item.quantiles["q95"] for item in past if item.model_version == 1 and item.last_close == 100] == [105]
