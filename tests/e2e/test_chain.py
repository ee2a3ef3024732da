"""From the exchange to the HTTP API: a training run on the embedded stack with recorded data.

The exchange fails for one pair. It is reported to Discord; the two others are trained and served.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.documents import HORIZONS
from make_us_rich.embedded.environment import DEMO_USER
from make_us_rich.forecasting.backtest import HORIZONS_COMPARED
from tests.support.documentation import code_blocks
from tests.support.embedded_stack import EmbeddedStack, embedded_stack
from tests.support.listening_sockets import REPLICA
from tests.support.recorded_data import DATA, needs_recorded_data

pytestmark = [needs_recorded_data, pytest.mark.timeout(900)]

PORT_BASE = 12_000
SERVED = ("btc_usdt", "eth_usdt")
BROKEN = "chz_usdt"
DAG_ID = "train_pairs"


@pytest.fixture(scope="module")
def stack() -> Iterator[EmbeddedStack]:
    pairs = ",".join([*SERVED, BROKEN])
    settings = {"MUR_PAIRS": pairs, "MUR_INTERVALS": "1h,4h", "MUR_HISTORY_CANDLES": "5000"}
    with embedded_stack("recorded", PORT_BASE, settings, DATA / "klines-1h") as running:
        yield running


@pytest.fixture(scope="module")
def finished_run(stack: EmbeddedStack) -> str:
    """Run the hourly DAG while the exchange fails for one pair; gives the run id."""
    exchange = stack.config.url("exchange")
    fault = {"symbol": BROKEN.replace("_", "").upper(), "kind": "500"}
    httpx.post(f"{exchange}/_control/faults", json=fault).raise_for_status()
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
    assert "the exchange failed with 500" in embed["description"]
    assert stack.config.url("airflow") in embed["description"], "no link to the task's log"
    assert not any(pair in embed["description"] for pair in SERVED)
    assert {field["name"]: field["value"] for field in embed["fields"]} == {"DAG": DAG_ID, "Run": finished_run}


def test_another_interval_is_trained_by_its_own_dag_and_served(stack: EmbeddedStack, finished_run: str) -> None:
    stack.unpause_without_schedule(f"{DAG_ID}_4h")
    trained = stack.mkrich("train", SERVED[0], "--interval", "4h", "--json")
    assert trained.returncode == 0, trained.stderr

    with stack.api(stack.secrets.service_token) as api:
        served = api.get("/v1/pairs?interval=4h").raise_for_status().json()["pairs"]
        forecast = api.get(f"/v1/forecasts/{SERVED[0]}?interval=4h").raise_for_status().json()
        not_yet = api.get(f"/v1/forecasts/{SERVED[1]}?interval=4h")
    assert served == [{"pair": SERVED[0], "interval": "4h"}]
    assert (forecast["interval"], forecast["model"]["name"]) == ("4h", f"{SERVED[0]}_4h")
    assert forecast["target_close_ms"] - forecast["as_of_ms"] == 4 * HOUR_MS
    assert forecast["horizons"][-1]["target_close_ms"] - forecast["as_of_ms"] == HORIZONS * 4 * HOUR_MS
    assert forecast["horizons"][0]["skill_vs_naive"] is not None
    assert (not_yet.status_code, "no model of 4h candles yet" in not_yet.json()["detail"]) == (503, True)
    hourly = stack.mkrich("forecast", SERVED[0], "--json")
    assert json.loads(hourly.stdout)[0]["interval"] == "1h"


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
        assert 0 < item["probability_up"] < 1
    assert forecast["target_open_ms"] == forecast["as_of_ms"]
    assert abs(forecast["as_of_ms"] / 1000 - time.time()) < 2 * 3600
    assert forecast["market"] == "recorded"
    assert forecast["model"]["version"] >= 1
    assert after["used"] == before["used"] + 1


def test_the_broken_pair_is_not_served(stack: EmbeddedStack, finished_run: str) -> None:
    with stack.api(stack.secrets.service_token) as api:
        answer = api.get(f"/v1/forecasts/{BROKEN}")

    assert answer.status_code in (404, 503)
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert BROKEN in answer.json()["detail"]


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


def test_the_watchdog_finds_nothing_wrong(stack: EmbeddedStack, finished_run: str) -> None:
    stack.unpause_without_schedule("watch_service")

    run_id = stack.airflow.trigger("watch_service")

    assert stack.wait_for_run("watch_service", run_id, 120) == "success", stack.states("watch_service", run_id)


def test_two_workers_train_the_model_of_all_pairs_together(stack: EmbeddedStack, finished_run: str) -> None:
    stack.unpause_without_schedule("train_foundation")  # it would first retry the broken pair

    trained = stack.mkrich("train", *SERVED, "--foundation", "--json")

    assert trained.returncode == 0, trained.stdout + trained.stderr
    newest, *_ = json.loads(stack.mkrich("models", "foundation", "--json").stdout)
    assert newest["aliases"] == ["champion"]
    assert newest["tags"]["promotion"].startswith("promoted: ")


def test_a_backtest_runs_on_the_cluster_and_brings_its_files_back(
    stack: EmbeddedStack, finished_run: str, tmp_path: Path
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
    # the closes of the last hours of a window are not known at every horizon
    assert len(ours) == 2 * sum(7 * 24 - horizon + 1 for horizon in HORIZONS_COMPARED)
    assert set(ours["pair"].to_pylist()) == {SERVED[1]}
    assert "Reliability" in out.with_suffix(".html").read_text()


def test_the_tutorial_leads_to_an_alert_and_back(stack: EmbeddedStack, finished_run: str) -> None:
    commands = {title: _tutorial(stack, title) for title in ("Break something", "Read the alert", "Repair it")}
    try:
        broken = stack.shell(commands["Break something"])
        assert broken.returncode != 0
        assert "failed" in broken.stdout
        alerts = stack.shell(commands["Read the alert"])
        assert "would post to Discord: train_pairs: sol_usdt failed" in alerts.stdout
        assert "4 tries" in alerts.stdout
    finally:
        repaired = stack.shell(commands["Repair it"])
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert "sol_usdt" in repaired.stdout
    assert "train_pairs works again" in stack.shell(commands["Read the alert"]).stdout


def _tutorial(stack: EmbeddedStack, heading: str) -> str:
    """Return the commands below a heading of the tutorial, for this stack instead of the demo's."""
    (commands,) = code_blocks("docs/tutorial.md", "sh", heading)
    here = commands.replace(".venv/bin/mkrich", f"{sys.executable.rpartition('/')[0]}/mkrich")
    return here.replace("127.0.0.1:28900", stack.config.url("exchange").removeprefix("http://"))


def test_predict_without_a_token_is_refused(stack: EmbeddedStack, finished_run: str) -> None:
    with stack.api() as api:
        answer = api.put("/predict", params={"pair": SERVED[0]})

    assert answer.status_code == 401
    assert answer.json()["status"] == 401
