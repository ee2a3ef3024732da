"""Our Airflow client and the real log-in of production's Airflow, with its FAB auth manager.

tests/e2e logs in to the embedded stack's Airflow, which has the simple auth manager.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
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
from make_us_rich.pipeline.airflow import Airflow, AirflowError
from tests.support.airflow_api import end_run, is_paused
from tests.support.compose import all_compose_variables, compose_services
from tests.support.dashboard_client import DashboardClient, click
from tests.support.folders import traversable_folder
from tests.support.processes import PROJECT_ROOT, free_port, running
from tests.support.servers import BIN, migrated_database, postgres_server

pytestmark = pytest.mark.timeout(300)

USER, PASSWORD = "operator", "a-password-for-tests"
ANOTHERS = ("a password", "b password")
ADMIN_MODULE = ["infra.docker.airflow_admin"]
BY_A_COMMAND = "score_forecasts"
_END = "-- the end of a module --"
_MODULES = f"""
import json, os, runpy, sys
from make_us_rich.core.settings import get_settings

for module, changed in json.load(sys.stdin):
    os.environ.update(changed)
    get_settings.cache_clear()
    sys.argv = module
    try:
        runpy.run_module(module[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, end.code
    print({_END!r}, flush=True)
"""


@dataclass(frozen=True)
class Server:
    url: str
    environment: Mapping[str, str]


@pytest.fixture(scope="module")
def installation() -> Iterator[tuple[Path, dict[str, str]]]:
    """A database as `airflow-init` of docker-compose.yml leaves it, with the DAGs; its folder and environment."""
    with traversable_folder() as folder, postgres_server(folder) as database:
        made = _environment(folder, database)
        _, said, _ = _run([["airflow", "db", "migrate"], ADMIN_MODULE, ["airflow", "dags", "reserialize"]], made)
        assert "Created Airflow's admin" in said
        yield folder, made


@pytest.fixture(scope="module")
def fab(installation: tuple[Path, dict[str, str]]) -> Iterator[Server]:
    folder, made = installation
    with _api_server(folder / "fab.log", made) as url:
        yield Server(url, made)


@pytest.fixture(scope="module")
def said_to_operators(installation: tuple[Path, dict[str, str]]) -> list[str]:
    """Pause a DAG by Airflow's command, and create another admin twice and once more with another password."""
    first, other = ({"MUR_AIRFLOW_USER": "another", "MUR_AIRFLOW_PASSWORD": password} for password in ANOTHERS)
    commands = [["airflow", "dags", "pause", BY_A_COMMAND, "--yes"], *[ADMIN_MODULE] * 3]
    return _run(commands, installation[1], {}, first, first, other)


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


def _run(modules: list[list[str]], environment: Mapping[str, str], *changed: Mapping[str, str]) -> list[str]:
    """Run modules as `python -m` does, one after the other in one process, as Airflow's imports take seconds.

    changed: variables that differ for each of them. Returns what each printed.
    """
    changes = changed or [{}] * len(modules)
    done = subprocess.run(
        [sys.executable, "-c", _MODULES],
        input=json.dumps(list(zip(modules, map(dict, changes), strict=True))),
        env={**os.environ, **environment},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout.split(_END)[:-1]


@contextmanager
def _api_server(log: Path, environment: Mapping[str, str]) -> Iterator[str]:
    port = free_port()
    command = [str(BIN / "airflow"), "api-server", "--host", "127.0.0.1", "--port", str(port), "--proxy-headers"]
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/api/v2/monitor/health", log, environment, timeout_s=240) as process:
        yield url
        process.kill()  # asked to end, it takes seconds


def test_the_client_logs_in_and_starts_a_run(fab: Server) -> None:
    with Airflow(fab.url, USER, PASSWORD) as airflow:
        assert airflow.has_dag("train_pairs")
        assert not airflow.has_dag("no_such_dag")
        assert set(airflow.dag_ids()) >= {"train_pairs", "train_foundation", "watch_service"}
        airflow.unpause("housekeeping")
        run_id = airflow.trigger("housekeeping", {"dry_run": True})
        assert airflow.active_runs("housekeeping") == [run_id]
        end_run(airflow, "housekeeping", run_id)
        assert airflow.run_state("housekeeping", run_id) == "failed"
        states = {state.dag_id: state for state in airflow.dag_states()}
        assert not states["housekeeping"].paused
        ended_s = states["housekeeping"].ended_s
        assert ended_s is not None
        assert abs(ended_s - time.time()) < 600
        assert states["publish_log"].ended_s is None


def test_train_now_of_the_admin_page_starts_a_run_of_that_pair_alone(fab: Server) -> None:
    with migrated_database() as url, Accounts(Database(url)) as accounts:
        pairs_table.seed(accounts.database, ("btc_usdt", "eth_usdt"), ())
        accounts.users.create("root", PASSWORD, role=ADMIN)
        settings = Settings(
            database_url=url,
            secret_key="contract-test",
            airflow_url=fab.url,
            airflow_user=USER,
            airflow_password=PASSWORD,
        )
        app = create_app(settings)
        root = DashboardClient(app.server.test_client())
        root.log_in("root", PASSWORD)
        root.get("/")
        chosen = {"admin-pairs.selectedRows": [{"pair": "eth_usdt"}]}
        with Airflow(fab.url, USER, PASSWORD) as airflow:
            airflow.pause("train_pairs")
            refused = click(app, root, "admin-train", **chosen)
            assert is_paused(airflow, "train_pairs"), "a schedule that a person stopped was started"
            assert airflow.active_runs("train_pairs") == []
            airflow.unpause("train_pairs")
        said = click(app, root, "admin-train", **chosen)

    assert "The schedule of train_pairs is paused" in refused
    with Airflow(fab.url, USER, PASSWORD) as airflow:
        (run_id,) = airflow.active_runs("train_pairs")
        run = airflow.request("GET", f"/api/v2/dags/train_pairs/dagRuns/{run_id}").json()
        end_run(airflow, "train_pairs", run_id)
    assert run["conf"] == {"pairs": ["eth_usdt"]}
    assert "Training of eth_usdt was started." in said
    assert f"/dags/train_pairs/runs/{run_id}" in said


def test_strangers_are_refused(fab: Server) -> None:
    with pytest.raises(AirflowError, match="401"):
        Airflow(fab.url, USER, "a guess")
    assert httpx.get(f"{fab.url}/api/v2/dags").status_code == 401


def test_a_new_installations_dags_are_not_paused(fab: Server) -> None:
    with Airflow(fab.url, USER, PASSWORD) as airflow:
        listed = airflow.request("GET", "/api/v2/dags").json()["dags"]
    assert listed
    assert [item["dag_id"] for item in listed if item["is_paused"]] == []


def test_dags_that_were_created_paused_are_unpaused_and_those_that_somebody_paused_are_not(
    fab: Server, said_to_operators: list[str]
) -> None:
    by_the_demo, by_a_person = "publish_log", "watch_service"
    with Airflow(fab.url, USER, PASSWORD) as airflow:
        airflow.pause(by_a_person)
        with closing(psycopg2.connect(_database_of(fab))) as connection, connection, connection.cursor() as cursor:
            cursor.execute("UPDATE dag SET is_paused = true WHERE dag_id = %s", (by_the_demo,))
        unpaused = airflow.unpause_untouched()
        still_paused = airflow.paused_dags()
        for dag_id in (by_a_person, BY_A_COMMAND):
            airflow.unpause(dag_id)

    assert unpaused == [by_the_demo]
    assert {by_a_person, BY_A_COMMAND} <= set(still_paused)
    assert by_the_demo not in still_paused


def _database_of(server: Server) -> str:
    return server.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")


def test_an_admin_has_the_password_of_the_settings_again(fab: Server, said_to_operators: list[str]) -> None:
    """Another admin than that of the other tests."""
    lines = (
        "Created Airflow's admin another\n",
        "Airflow's admin another exists and has the password of the settings\n",
        "Reset the password of Airflow's admin another to that of the settings\n",
    )
    for line, said in zip(lines, said_to_operators[1:], strict=True):
        assert line in said
    with pytest.raises(AirflowError, match="401"):
        Airflow(fab.url, "another", ANOTHERS[0])
    Airflow(fab.url, "another", ANOTHERS[1]).__exit__(None, None, None)
