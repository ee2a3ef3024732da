"""Our Airflow client and Airflow's real log-in: the simple auth manager of the embedded stack and FAB of production."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg2
import pytest

from dash_app.app import create_app
from make_us_rich.accounts import ADMIN, Accounts
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.operations.airflow import Airflow, AirflowError
from tests.support.airflow_api import end_run
from tests.support.compose import all_compose_variables, compose_services
from tests.support.dashboard_client import DashboardClient, click
from tests.support.folders import traversable_folder
from tests.support.processes import PROJECT_ROOT, free_port, running
from tests.support.servers import BIN, migrated_database, postgres_server

pytestmark = pytest.mark.timeout(300)

USER, PASSWORD = "operator", "a-password-for-tests"


@dataclass(frozen=True)
class Server:
    url: str
    environment: Mapping[str, str]


@pytest.fixture(scope="module")
def installation() -> Iterator[tuple[Path, dict[str, str]]]:
    """A database as `airflow-init` of docker-compose.yml leaves it, with the DAGs; its folder and environment."""
    with traversable_folder() as folder, postgres_server(folder) as database:
        made = _environment(folder, database)
        _run(["airflow", "db", "migrate"], made)
        assert "is made" in _run(["infra.docker.airflow_admin"], made)
        _run(["airflow", "dags", "reserialize"], made)
        yield folder, made


@pytest.fixture(scope="module", params=["fab", "simple"])
def server(request: pytest.FixtureRequest, installation: tuple[Path, dict[str, str]]) -> Iterator[Server]:
    folder, made = installation
    environment = made if request.param == "fab" else made | _simple_manager(folder)
    with _api_server(folder, environment) as url:
        yield Server(url, environment)


def _environment(folder: Path, database: str) -> dict[str, str]:
    address = database.partition("://")[2].rpartition("/")[0]
    with closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE airflow")
    return _production() | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{address}/airflow",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{address}/airflow",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": "a-secret-key-for-tests-of-the-log-in",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-for-tests-of-the-log-in-of-airflow-that-is-long-enough-for-sha512",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "MUR_AIRFLOW_USER": USER,
        "MUR_AIRFLOW_PASSWORD": PASSWORD,
    }


def _production() -> dict[str, str]:
    """What docker-compose.yml says of log-in and new DAGs."""
    given = compose_services(all_compose_variables() | {"MUR_DAGS_PAUSED": ""})["airflow-api-server"]["environment"]
    names = ("CORE__DAGS_ARE_PAUSED_AT_CREATION", "CORE__AUTH_MANAGER", "FAB__ENABLE_PROXY_FIX")
    return {f"AIRFLOW__{name}": given[f"AIRFLOW__{name}"] for name in names}


def _simple_manager(folder: Path) -> dict[str, str]:
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({USER: PASSWORD}))
    return {
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }


def _run(module: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *module],
        env={**os.environ, **environment},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@contextmanager
def _api_server(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    port = free_port()
    command = [str(BIN / "airflow"), "api-server", "--host", "127.0.0.1", "--port", str(port), "--proxy-headers"]
    url = f"http://127.0.0.1:{port}"
    log = folder / "api-server.log"
    with running(command, f"{url}/api/v2/monitor/health", log, environment, timeout_s=120):
        yield url


def test_the_client_logs_in_and_starts_a_run(server: Server) -> None:
    with Airflow(server.url, USER, PASSWORD) as airflow:
        assert airflow.has_dag("train_pairs")
        assert not airflow.has_dag("no_such_dag")
        assert set(airflow.dag_ids()) >= {"train_pairs", "train_foundation", "watch_service"}
        airflow.unpause("housekeeping")
        run_id = airflow.trigger("housekeeping", {"dry_run": True})
        assert airflow.active_runs("housekeeping") == [run_id]
        end_run(airflow, "housekeeping", run_id)
        assert airflow.run_state("housekeeping", run_id) == "failed"


@pytest.mark.parametrize("server", ["fab"], indirect=True)
def test_train_now_of_the_admin_page_starts_a_run_of_that_pair_alone(server: Server) -> None:
    with migrated_database() as url, Accounts(Database(url)) as accounts:
        pairs_table.seed(accounts.database, ("btc_usdt", "eth_usdt"), ())
        accounts.users.create("root", PASSWORD, role=ADMIN)
        settings = Settings(
            database_url=url,
            secret_key="contract-test",
            airflow_url=server.url,
            airflow_user=USER,
            airflow_password=PASSWORD,
        )
        app = create_app(settings)
        root = DashboardClient(app.server.test_client())
        root.log_in("root", PASSWORD)
        root.get("/")
        said = click(app, root, "admin-train", **{"admin-pairs.selectedRows": [{"pair": "eth_usdt"}]})

    with Airflow(server.url, USER, PASSWORD) as airflow:
        (run_id,) = airflow.active_runs("train_pairs")
        run = airflow.request("GET", f"/api/v2/dags/train_pairs/dagRuns/{run_id}").json()
        end_run(airflow, "train_pairs", run_id)
    assert run["conf"] == {"pairs": ["eth_usdt"]}
    assert "Training of eth_usdt was started." in said
    assert f"/dags/train_pairs/runs/{run_id}" in said


def test_strangers_are_refused(server: Server) -> None:
    with pytest.raises(AirflowError, match="401"):
        Airflow(server.url, USER, "a guess")
    assert httpx.get(f"{server.url}/api/v2/dags").status_code == 401


def test_a_new_installations_dags_are_not_paused(server: Server) -> None:
    with Airflow(server.url, USER, PASSWORD) as airflow:
        listed = airflow.request("GET", "/api/v2/dags").json()["dags"]
    assert listed
    assert [item["dag_id"] for item in listed if item["is_paused"]] == []


@pytest.mark.parametrize("server", ["fab"], indirect=True)
def test_the_admin_has_the_password_of_the_settings_again(
    server: Server, installation: tuple[Path, dict[str, str]]
) -> None:
    _, environment = installation
    assert "is there" in _run(["infra.docker.airflow_admin"], environment)
    changed = {**environment, "MUR_AIRFLOW_PASSWORD": "another password"}
    assert "given the password" in _run(["infra.docker.airflow_admin"], changed)
    with pytest.raises(AirflowError, match="401"):
        Airflow(server.url, USER, PASSWORD)
    Airflow(server.url, USER, "another password").__exit__(None, None, None)
    _run(["infra.docker.airflow_admin"], environment)
