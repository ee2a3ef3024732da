"""A stack on recorded klines: the tutorial's outage and repair, an interval of its own, the foundation, a backtest.

The recording is the simulated market, written to files as `mkrich candles download` writes them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from infra.exchange.simulated import simulate
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import Pair
from make_us_rich.documents import HORIZONS
from make_us_rich.forecasting.backtest import HORIZONS_COMPARED
from make_us_rich.market.recordings import klines_path, write_klines
from tests.support.documentation import code_blocks
from tests.support.embedded_stack import EmbeddedStack, embedded_stack

pytestmark = pytest.mark.timeout(900)

PAIRS = ("btc_usdt", "eth_usdt")
ADDED = "sol_usdt"  # by the tutorial


@pytest.fixture(scope="module")
def klines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of klines that end now."""
    folder, now_ms = tmp_path_factory.mktemp("klines"), time.time_ns() // 1_000_000
    market = simulate(now_ms)
    for pair in map(Pair.parse, (*PAIRS, ADDED)):
        candles = market[pair.symbol]
        write_klines(klines_path(folder, pair), candles[candles.open_time_ms + HOUR_MS <= now_ms])
    return folder


@pytest.fixture(scope="module")
def stack(klines: Path) -> Iterator[EmbeddedStack]:
    settings = {"MUR_PAIRS": ",".join(PAIRS), "MUR_INTERVALS": "1h,4h", "MUR_HISTORY_CANDLES": "3000"}
    with embedded_stack("recorded", settings, klines) as running:
        yield running


@pytest.fixture(scope="module")
def tutorial(stack: EmbeddedStack) -> dict[str, CompletedProcess[str]]:
    """What the tutorial's commands print, by heading; a heading with * is read again after the repair."""
    stack.unpause_without_schedule("train_pairs")
    alert = _tutorial(stack, "Read the alert")
    outputs = {
        "Break something": stack.shell(_tutorial(stack, "Break something")),
        "Read the alert": stack.shell(alert),
    }
    outputs["Repair it"] = stack.shell(_tutorial(stack, "Repair it"))
    return outputs | {"Read the alert*": stack.shell(alert)}


def _tutorial(stack: EmbeddedStack, heading: str) -> str:
    """Return the commands below a heading of the tutorial, for this stack instead of the demo's."""
    (commands,) = code_blocks("docs/tutorial.md", "sh", heading)
    here = commands.replace(".venv/bin/mkrich", f"{sys.executable.rpartition('/')[0]}/mkrich")
    return here.replace("127.0.0.1:28900", stack.config.url("exchange").removeprefix("http://"))


def test_the_tutorial_leads_to_an_alert_and_back(tutorial: dict[str, CompletedProcess[str]]) -> None:
    broken, repaired = tutorial["Break something"], tutorial["Repair it"]

    assert broken.returncode != 0
    assert "failed" in broken.stdout
    alert = tutorial["Read the alert"].stdout
    assert f"would post to Discord: train_pairs: {ADDED} failed" in alert
    assert "4 tries" in alert
    assert "the exchange failed with 500" in alert
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert ADDED in repaired.stdout
    assert "train_pairs works again" in tutorial["Read the alert*"].stdout


def test_the_pair_that_was_repaired_is_served_from_the_recording(
    stack: EmbeddedStack, tutorial: dict[str, CompletedProcess[str]]
) -> None:
    (shown,) = json.loads(stack.mkrich("forecast", ADDED, "--json").stdout)

    assert (shown["market"], shown["interval"], shown["model"]["name"]) == ("recorded", "1h", f"{ADDED}_1h")
    assert abs(shown["as_of_ms"] / 1000 - time.time()) < 2 * 3600


def test_another_interval_is_trained_by_its_own_dag_and_served(
    stack: EmbeddedStack, tutorial: dict[str, CompletedProcess[str]]
) -> None:
    stack.unpause_without_schedule("train_pairs_4h")
    trained = stack.mkrich("train", ADDED, "--interval", "4h", "--json")
    assert trained.returncode == 0, trained.stderr

    with stack.api(stack.secrets.service_token) as api:
        served = api.get("/v1/pairs?interval=4h").raise_for_status().json()["pairs"]
        forecast = api.get(f"/v1/forecasts/{ADDED}?interval=4h").raise_for_status().json()
        not_yet = api.get(f"/v1/forecasts/{PAIRS[1]}?interval=4h")
    assert served == [{"pair": ADDED, "interval": "4h"}]
    assert (forecast["interval"], forecast["model"]["name"]) == ("4h", f"{ADDED}_4h")
    assert forecast["target_close_ms"] - forecast["as_of_ms"] == 4 * HOUR_MS
    assert forecast["horizons"][-1]["target_close_ms"] - forecast["as_of_ms"] == HORIZONS * 4 * HOUR_MS
    assert forecast["horizons"][0]["skill_vs_naive"] is not None
    assert (not_yet.status_code, "no model of 4h candles yet" in not_yet.json()["detail"]) == (503, True)
    assert not_yet.headers["content-type"].startswith("application/problem+json")
    hourly = stack.mkrich("forecast", ADDED, "--json")
    assert json.loads(hourly.stdout)[0]["interval"] == "1h"


def test_the_watchdog_finds_nothing_wrong(stack: EmbeddedStack, tutorial: dict[str, CompletedProcess[str]]) -> None:
    stack.unpause_without_schedule("watch_service")

    run_id = stack.airflow.trigger("watch_service")

    assert stack.wait_for_run("watch_service", run_id, 300) == "success", stack.states("watch_service", run_id)


def test_two_workers_train_the_model_of_all_pairs_together(stack: EmbeddedStack) -> None:
    stack.unpause_without_schedule("train_foundation")

    trained = stack.mkrich("train", *PAIRS, "--foundation", "--json")

    assert trained.returncode == 0, trained.stdout + trained.stderr
    newest, *_ = json.loads(stack.mkrich("models", "foundation", "--json").stdout)
    assert newest["aliases"] == ["champion"]
    assert newest["tags"]["promotion"].startswith("promoted: ")


def test_a_backtest_runs_on_the_cluster_and_brings_its_files_back(
    stack: EmbeddedStack, klines: Path, tmp_path: Path
) -> None:
    out = tmp_path / "forecasts.parquet"
    first = datetime.now(UTC) - timedelta(days=30)
    days = ["--from", f"{first:%Y-%m-%d}", "--to", f"{first + timedelta(days=19):%Y-%m-%d}", "--every", "1w"]
    asked = ["--pairs", PAIRS[1], *days, "--model", "linear", "--candles", str(klines), "--out", str(out)]
    done = stack.mkrich("backtest", *asked)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 windows" in done.stdout
    forecasts = pq.read_table(out)
    ours = forecasts.filter(pc.equal(forecasts["model"], "linear"))
    # the closes of the last hours of a window are not known at every horizon
    assert len(ours) == 2 * sum(7 * 24 - horizon + 1 for horizon in HORIZONS_COMPARED)
    assert set(ours["pair"].to_pylist()) == {PAIRS[1]}
    assert "Reliability" in out.with_suffix(".html").read_text()
