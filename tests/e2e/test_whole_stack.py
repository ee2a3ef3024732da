"""From the exchange to the HTTP API, the dashboard and Discord: the embedded stack of a newcomer, and one training run.

The exchange refuses one pair. The run reports it to Discord; the two others are trained and served.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from make_us_rich.documents import HORIZONS, HORIZONS_WITH_PROBABILITY_UP
from make_us_rich.embedded.environment import ADMIN, DEMO_USER
from make_us_rich.pipeline.airflow import Airflow, AirflowError
from tests.support.embedded_stack import EmbeddedStack, embedded_stack
from tests.support.listening_sockets import REPLICA
from tests.support.processes import PROJECT_ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

SERVED = ("btc_usdt", "eth_usdt")
BROKEN = "chz_usdt"
DAG_ID = "train_pairs"
# Another request would lengthen the ban, so the pair fails at its first try: a run without waiting.
FAULT = {"symbol": "CHZUSDT", "kind": "418", "retry_after_s": 7200}
REASON = "the exchange limits our requests (418) for 7200 s"


@pytest.fixture(scope="module")
def stack() -> Iterator[EmbeddedStack]:
    settings = {"MUR_PAIRS": ",".join([*SERVED, BROKEN]), "MUR_HISTORY_CANDLES": "3000"}
    with embedded_stack("simulated", settings) as running:  # which asserts that no process is left
        yield running


@pytest.fixture(scope="module")
def finished_run(stack: EmbeddedStack) -> str:
    """Run the hourly DAG while the exchange refuses one pair; gives the run id."""
    with stack.api(stack.secrets.service_token) as api:
        wait_until(lambda: api.get(f"/v1/forecasts/{BROKEN}").is_success, 120, "a new stack forecasts nothing")
    httpx.post(f"{stack.config.url('exchange')}/_control/faults", json=FAULT).raise_for_status()
    stack.unpause_without_schedule(DAG_ID)
    trained = stack.mkrich("train", *SERVED, BROKEN, "--json")
    assert trained.returncode == 1, trained.stderr  # one pair is broken
    run: dict[str, str] = json.loads(trained.stdout)
    assert run["state"] == "failed"
    return run["run_id"]


def test_every_component_runs(stack: EmbeddedStack) -> None:
    status = stack.mkrich("status", "--json")

    assert status.returncode == 0, status.stderr
    states = {row["name"]: row["state"] for row in json.loads(status.stdout)}
    assert set(states.values()) == {"RUNNING"}
    assert {"postgres", "s3", "ray", "mlflow", "airflow-scheduler", "exchange", "discord", "dash"} <= set(states)


def test_nothing_listens_beyond_loopback(stack: EmbeddedStack, finished_run: str) -> None:
    sockets = stack.listening()

    assert len({found.port for found in sockets}) >= 20
    beyond = {found for found in sockets if not found.is_local}
    assert {found for found in beyond if not found.process.startswith(REPLICA)} == set()


def test_mlflow_does_not_run_as_root(stack: EmbeddedStack) -> None:
    (server,) = stack.processes("infra.mlflow_server")

    assert server.uids().real != 0


def test_airflow_refuses_strangers(stack: EmbeddedStack) -> None:
    with pytest.raises(AirflowError, match="401"):
        Airflow(stack.config.url("airflow"), ADMIN, "a guess")
    assert httpx.get(f"{stack.config.url('airflow')}/api/v2/dags").status_code == 401


def test_two_pairs_are_trained_and_the_broken_one_fails_alone(stack: EmbeddedStack, finished_run: str) -> None:
    states = stack.states(DAG_ID, finished_run)

    assert states["fetch", BROKEN] == "failed"
    for pair in SERVED:
        assert states["fetch", pair] == "success"
        assert states["promote", pair] == "success"
    assert stack.airflow.run_state(DAG_ID, finished_run) == "failed"


def test_the_log_of_training_has_each_step_once(stack: EmbeddedStack, finished_run: str) -> None:
    (job,) = [job for job in stack.jobs() if "ray_jobs.train_pairs" in job["entrypoint"]]

    lines = stack.job_log(job["submission_id"]).splitlines()

    for pair in SERVED:
        for step in ("features", "train", "upload"):
            assert len([line for line in lines if line.endswith(f" {pair}: {step}")]) == 1
    assert not [line for line in lines if "HTTP Request" in line]


def test_the_failure_is_reported_to_discord_once(stack: EmbeddedStack, finished_run: str) -> None:
    (embed,) = stack.discord_embeds_of(finished_run)

    assert embed["title"] == f"{DAG_ID}: {BROKEN} failed"
    assert "fetch" in embed["description"]
    assert REASON in embed["description"]
    assert stack.config.url("airflow") in embed["description"], "no link to the task's log"
    assert not any(pair in embed["description"] for pair in SERVED)
    assert {field["name"]: field["value"] for field in embed["fields"]} == {"DAG": DAG_ID, "Run": finished_run}


@pytest.mark.parametrize("pair", SERVED)
def test_a_forecast_is_served_with_a_token_and_costs_one_call(
    stack: EmbeddedStack, finished_run: str, pair: str
) -> None:
    with stack.accounts() as accounts:
        owner = accounts.users.authenticate(DEMO_USER, stack.secrets.demo_password)
        token = accounts.tokens.create(owner.user_id, f"e2e {pair}")
    with stack.api(token) as api:
        before = api.get("/v1/usage").json()
        forecast: dict[str, Any] = api.get(f"/v1/forecasts/{pair}").raise_for_status().json()
        after = api.get("/v1/usage").json()

    quantiles = list(forecast["quantiles"].values())
    assert quantiles == sorted(quantiles)
    assert len(set(quantiles)) == 7
    assert forecast["quantiles"]["q05"] < forecast["last_close"] < forecast["quantiles"]["q95"]
    assert [item["horizon"] for item in forecast["horizons"]] == list(range(1, HORIZONS + 1))
    for item in forecast["horizons"]:
        assert item["skill_vs_naive"] is not None
        assert 0.5 < item["coverage_80"] <= 1
        assert (item["probability_up"] is None) == (item["horizon"] > HORIZONS_WITH_PROBABILITY_UP)
    assert forecast["target_open_ms"] == forecast["as_of_ms"]
    assert abs(forecast["as_of_ms"] / 1000 - time.time()) < 2 * 3600
    assert forecast["market"] == "simulated"
    assert forecast["model"]["version"] >= 1
    assert after["used"] == before["used"] + 1


def test_a_call_without_a_token_is_refused(stack: EmbeddedStack) -> None:
    with stack.api() as api:
        answer = api.put("/predict", params={"pair": SERVED[0]})

    assert answer.status_code == 401
    assert answer.json()["status"] == 401


def test_the_broken_pair_keeps_the_forecast_of_the_shipped_foundation(stack: EmbeddedStack, finished_run: str) -> None:
    with stack.api(stack.secrets.service_token) as api:
        broken, served = (api.get(f"/v1/forecasts/{pair}").raise_for_status().json() for pair in (BROKEN, SERVED[0]))

    assert (broken["model"]["shipped"], served["model"]["shipped"]) == (True, False)


def test_the_terminal_shows_what_is_served_and_what_is_not(stack: EmbeddedStack, finished_run: str) -> None:
    (shown,) = json.loads(stack.mkrich("forecast", SERVED[0], "--json").stdout)
    champions = {item["name"]: item for item in json.loads(stack.mkrich("models", "--json").stdout)}
    diagnosis = stack.mkrich("doctor", "--json")
    status = stack.mkrich("status").stdout

    assert shown["pair"] == SERVED[0]
    assert shown["model"]["version"] == champions[f"{SERVED[0]}_1h"]["version"]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in status.splitlines() if "_usdt" in line]
    due = {(pair, interval): f"{trained} {then}" for pair, interval, trained, then in rows}
    assert "(age)" in due[SERVED[0], "1h"], status
    assert "never" not in due[SERVED[0], "1h"], status
    assert "never" in due[BROKEN, "1h"], status
    found = {item["name"]: item for item in json.loads(diagnosis.stdout)}
    assert {item["state"] for name, item in found.items() if name != "mlflow"} == {"ok"}, diagnosis.stdout
    assert found["mlflow"]["way_out"] == f"run `mkrich train {BROKEN}`"


@pytest.fixture(scope="module")
def variables(stack: EmbeddedStack) -> str:
    """Return what `mkrich env` prints for a shell, which the documentation gives to `eval`."""
    done = _shell(stack, "mkrich env")
    assert done.returncode == 0, done.stderr
    return done.stdout


def _shell(stack: EmbeddedStack, commands: str) -> subprocess.CompletedProcess[str]:
    """Run commands in a shell that has the stack's folder and the programs beside Python."""
    programs = Path(sys.executable).parent
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(stack.config.state)}
    environment |= {name: value for name, value in stack.environment.items() if name.startswith("MUR_STACK")}
    return subprocess.run(["bash", "-c", commands], env=environment, cwd=PROJECT_ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("airflow dags list-runs train_pairs --output plain", "failed"),
        ("mlflow experiments search", "train_pairs"),
        ("rclone lsf stack:", "candles/"),
        ("ray job list", "ray_jobs.train_pairs"),
    ],
)
def test_programs_of_the_environment_speak_to_the_stack(
    stack: EmbeddedStack, finished_run: str, variables: str, command: str, shown: str
) -> None:
    done = _shell(stack, f"set -e; {variables}\n{command}")
    assert (done.returncode, shown in done.stdout) == (0, True), done.stdout + done.stderr


def test_the_dashboard_shows_its_pages_after_log_in(stack: EmbeddedStack, finished_run: str) -> None:
    with httpx.Client(base_url=stack.config.url("dash"), timeout=60) as visitor:
        refused = visitor.get("/account")
        form = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', visitor.get("/login").text)
        assert form is not None
        secrets = {"name": DEMO_USER, "password": stack.secrets.demo_password, "csrf_token": form[1]}
        entered = visitor.post("/login", data=secrets)
        page = visitor.get(f"/?pair={SERVED[0]}").raise_for_status()
        account = visitor.get("/account")
        forecast = visitor.get(f"/embed/{SERVED[0]}")

    assert refused.is_redirect
    assert (entered.status_code, entered.headers["location"]) == (302, "/")
    assert "_dash-config" in page.text
    assert account.status_code == 200
    assert (forecast.status_code, "BTC / USDT" in forecast.text) == (200, True)
