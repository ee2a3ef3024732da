"""The mission, end to end: the embedded stack on recorded data, a run by Airflow's REST API, forecasts over HTTP.

One pair's market is broken on purpose. It is reported to Discord; the two others are trained and served.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from make_us_rich.accounts import Accounts
from make_us_rich.airflow_client import Airflow
from make_us_rich.local_stack.environment import ADMIN, DEMO_USER, database_url
from make_us_rich.local_stack.plan import StackPlan
from make_us_rich.local_stack.secrets import StackSecrets, load_or_create
from tests.support.processes import PROJECT_ROOT
from tests.support.recorded import DATA, needs_recorded_data

pytestmark = [needs_recorded_data, pytest.mark.timeout(900)]

PORT_BASE = 12_000
SERVED = ("btc_usdt", "eth_usdt")
BROKEN = "chz_usdt"
DAG_ID = "train_pairs"


class RunningStack:
    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.plan = StackPlan("recorded", home / "recorded", PORT_BASE, DATA / "klines-1h")
        self.secrets: StackSecrets = load_or_create(self.plan.state / "secrets.json")

    def mkrich(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "mkrich"), *arguments]
        return subprocess.run(
            command, env=dict(self.environment), cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
        )

    def api(self, token: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.plan.url("api"), headers=headers, timeout=30)

    def accounts(self) -> Accounts:
        return Accounts(database_url(self.plan, self.secrets, "make_us_rich"))


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    # the server's unprivileged user must be able to enter, which pytest's own folders do not allow
    home = Path(tempfile.mkdtemp(prefix="mur-e2e-"))
    home.chmod(0o755)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MUR_")},
        "MUR_STACK_HOME": str(home),
        "MUR_PORT_BASE": str(PORT_BASE),
        "MUR_PAIRS": ",".join([*SERVED, BROKEN]),
    }
    running = RunningStack(home, environment)
    try:
        started = running.mkrich("up", "--data", str(DATA / "klines-1h"))
        assert started.returncode == 0, started.stdout + started.stderr
        yield running
    finally:
        ended = running.mkrich("down")
        shutil.rmtree(home, ignore_errors=True)
    assert ended.returncode == 0, ended.stderr
    left = [process.pid for process in psutil.process_iter() if _belongs_to(process, home)]
    assert left == [], "processes were left behind"


@pytest.fixture(scope="module")
def airflow(stack: RunningStack) -> Iterator[Airflow]:
    with Airflow(stack.plan.url("airflow"), ADMIN, stack.secrets.admin_password) as client:
        yield client


@pytest.fixture(scope="module")
def finished_run(stack: RunningStack, airflow: Airflow) -> str:
    """A whole run of the hourly DAG while the exchange fails for one pair; returns its id."""
    exchange = stack.plan.url("exchange")
    fault = {"symbol": BROKEN.replace("_", "").upper(), "kind": "500"}
    httpx.post(f"{exchange}/_control/faults", json=fault).raise_for_status()
    _until(lambda: airflow.has_dag(DAG_ID), 60, "the DAG is not known")
    # unpausing starts the last hour's run by itself; this test wants the run that it asks for
    airflow.unpause(DAG_ID)
    _until(lambda: airflow.active_runs(DAG_ID), 60, "the hourly run does not start")
    for scheduled in airflow.active_runs(DAG_ID):
        airflow.end_run(DAG_ID, scheduled)
    trained = stack.mkrich("train", *SERVED, BROKEN, "--json")
    assert trained.returncode == 1, trained.stderr  # one pair is broken
    run: dict[str, str] = json.loads(trained.stdout)
    assert run["state"] == "failed"
    return run["run_id"]


def test_every_component_runs(stack: RunningStack) -> None:
    status = stack.mkrich("status", "--json")

    assert status.returncode == 0, status.stderr
    states = {row["name"]: row["state"] for row in json.loads(status.stdout)}
    assert set(states.values()) == {"RUNNING"}
    assert {"postgres", "s3", "ray", "mlflow", "airflow-scheduler", "exchange", "discord", "dash"} <= set(
        states
    )


def test_two_pairs_are_trained_and_the_broken_one_fails_alone(airflow: Airflow, finished_run: str) -> None:
    tasks = airflow.task_states(DAG_ID, finished_run)
    states = {(task.task_id, task.label): task.state for task in tasks}

    assert states["fetch", BROKEN] == "failed"
    for pair in SERVED:
        assert states["fetch", pair] == "success"
        assert states["judge.validate", pair] == "success"
        assert states["judge.promote", pair] == "success"
    assert airflow.run_state(DAG_ID, finished_run) == "failed"


def test_the_failure_is_reported_to_discord_once(stack: RunningStack, finished_run: str) -> None:
    messages = httpx.get(f"{stack.plan.url('discord')}/_control/messages").json()
    embeds = [embed for message in messages for embed in message["embeds"]]

    assert len(embeds) == 1, embeds
    (embed,) = embeds
    assert embed["title"] == f"{DAG_ID}: {BROKEN} failed"
    assert "fetch" in embed["description"]
    assert "the exchange failed with 500" in embed["description"]
    assert stack.plan.url("airflow") in embed["description"], "no link to the task's log"
    assert not any(pair in embed["description"] for pair in SERVED)
    assert {field["name"]: field["value"] for field in embed["fields"]} == {
        "DAG": DAG_ID,
        "Run": finished_run,
    }


@pytest.mark.parametrize("pair", SERVED)
def test_a_forecast_is_served_with_a_token_and_costs_one_call(
    stack: RunningStack, finished_run: str, pair: str
) -> None:
    with stack.accounts() as accounts:
        owner = accounts.authenticate(DEMO_USER, stack.secrets.demo_password)
        token = accounts.create_token(owner.user_id, f"e2e {pair}")
    with stack.api(token) as api:
        before = api.get("/v1/usage").json()
        forecast: dict[str, Any] = api.get(f"/v1/forecasts/{pair}").raise_for_status().json()
        after = api.get("/v1/usage").json()

    quantiles = list(forecast["quantiles"].values())
    assert quantiles == sorted(quantiles)
    assert len(set(quantiles)) == 7
    assert forecast["quantiles"]["q05"] < forecast["last_close"] < forecast["quantiles"]["q95"]
    assert forecast["target_open_ms"] == forecast["as_of_ms"]
    assert abs(forecast["as_of_ms"] / 1000 - time.time()) < 2 * 3600
    assert forecast["market"] == "recorded"
    assert forecast["model"]["version"] >= 1
    assert after["used"] == before["used"] + 1


def test_the_broken_pair_is_not_served(stack: RunningStack, finished_run: str) -> None:
    with stack.api(stack.secrets.service_token) as api:
        answer = api.get(f"/v1/forecasts/{BROKEN}")

    assert answer.status_code in (404, 503)
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert BROKEN in answer.json()["detail"]


def test_the_terminal_shows_what_is_served_and_what_is_not(stack: RunningStack, finished_run: str) -> None:
    (shown,) = json.loads(stack.mkrich("forecast", SERVED[0], "--json").stdout)
    champions = {item["name"]: item for item in json.loads(stack.mkrich("models", "--json").stdout)}
    diagnosis = stack.mkrich("doctor", "--json")

    assert shown["pair"] == SERVED[0]
    assert shown["model"]["version"] == champions[f"{SERVED[0]}_1h"]["version"]
    found = {item["name"]: item for item in json.loads(diagnosis.stdout)}
    assert {item["state"] for name, item in found.items() if name != "mlflow"} == {"ok"}, diagnosis.stdout
    assert found["mlflow"]["way_out"] == f"run `mkrich train {BROKEN}`"


def test_two_workers_train_the_model_of_all_pairs_together(stack: RunningStack, finished_run: str) -> None:
    trained = stack.mkrich("train", *SERVED, "--foundation", "--json")

    assert trained.returncode == 0, trained.stdout + trained.stderr
    # unpausing the DAG may have started the last week's run as well
    newest, *_ = json.loads(stack.mkrich("models", "foundation", "--json").stdout)
    assert newest["aliases"] == ["champion"]
    assert newest["tags"]["promotion"].startswith("promoted: ")


def test_a_backtest_runs_on_the_cluster_and_brings_its_files_back(
    stack: RunningStack, finished_run: str, tmp_path: Path
) -> None:
    out = tmp_path / "forecasts.parquet"
    asked = ["--pairs", SERVED[1], "--from", "2022-06-01", "--to", "2022-06-20", "--every", "1w"]
    done = stack.mkrich(
        "backtest", *asked, "--model", "linear", "--candles", str(DATA / "klines-1h"), "--out", str(out)
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 windows" in done.stdout
    forecasts = pq.read_table(out)
    ours = forecasts.filter(pc.equal(forecasts["model"], "linear"))
    assert len(ours) == 2 * 7 * 24
    assert set(ours["pair"].to_pylist()) == {SERVED[1]}
    assert "Reliability" in out.with_suffix(".html").read_text()


def test_predict_without_a_token_is_refused(stack: RunningStack, finished_run: str) -> None:
    with stack.api() as api:
        answer = api.put("/predict", params={"pair": SERVED[0]})

    assert answer.status_code == 401
    assert answer.json()["status"] == 401


def _until(done: Any, timeout_s: float, complaint: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"{complaint} after {timeout_s} s"
        time.sleep(0.5)


def _belongs_to(process: psutil.Process, home: Path) -> bool:
    try:
        return str(home) in " ".join([*process.cmdline(), *process.environ().values()])
    except (psutil.Error, OSError):
        return False
