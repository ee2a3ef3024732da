"""Which runs are refused, and what is posted to Discord about them."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from make_us_rich.core.interval import Interval
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import trainings
from make_us_rich.database.pool import Database
from tests.support.airflow_runs import DagEnvironment

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("three_active_pairs")]


def test_what_cannot_be_trained_is_refused_with_its_reason_in_discord(world: DagEnvironment) -> None:
    pairs_table.put(Database(world.database_url), "eth_usdt", plan="off")
    before = len(world.embeds())
    refused = {
        "parameter pairs: doge_usdt is not listed: choose from btc_usdt, chz_usdt": {"pairs": ["doge_usdt"]},
        "parameter pairs: eth_usdt is off: make it active first": {"pairs": ["eth_usdt"]},
        "parameter pair: 'BTCUSDT' is not a pair": {"pairs": ["BTCUSDT"]},
        "parameter as_of: 2199-01-01T00:00:00+00:00 is in the future": {"as_of": "2199-01-01T00:00:00+00:00"},
    }

    runs = [world.run("train_pairs", form) for form in refused.values()]

    embeds = world.embeds()[before:]
    assert [run.state for run in runs] == ["failed"] * len(refused)
    assert {run.tries["plan_run", ""] for run in runs} == {1}, "a refusal was retried"
    assert {run.states["refresh_serving", ""] for run in runs} == {"skipped"}
    assert [embed["title"] for embed in embeds] == ["train_pairs: run refused"] * len(refused)
    for reason, embed in zip(refused, embeds, strict=True):
        assert reason in embed["description"]


def test_what_failed_for_each_pair_is_posted_in_one_message(world: DagEnvironment) -> None:
    """The exchange does not know one of three pairs, which is parked, and has no candles of another."""
    world.break_exchange(kind="unknown_symbol", symbol="CHZUSDT")
    world.break_exchange(kind="empty", symbol="ETHUSDT")
    before = len(world.embeds())

    run = world.run("train_pairs", {"pairs": ["chz_usdt", "eth_usdt"]})

    assert run.state == "failed"
    assert {pair: run.states["fetch", pair] for pair in ("btc_usdt", "chz_usdt", "eth_usdt")} == {
        "btc_usdt": "success", "chz_usdt": "failed", "eth_usdt": "failed"
    }  # fmt: skip
    assert run.tries["fetch", "chz_usdt"] == 1, "the fetch of a delisted pair was retried"
    assert run.tries["fetch", "eth_usdt"] == 4
    (embed,) = world.embeds()[before:]
    assert embed["title"] == "train_pairs: chz_usdt, eth_usdt failed"
    assert {field["name"]: field["value"] for field in embed["fields"]} == {"DAG": "train_pairs", "Run": run.run_id}
    page = f"{world.typed_settings().airflow_link_url}/dags/train_pairs/runs/{quote(run.run_id)}"
    assert embed["url"] == page
    task = rf"\[fetch\]\({re.escape(page)}/tasks/fetch/mapped/\d\?try_number=\d\)"
    delisted, empty = sorted(embed["description"].splitlines())
    unknown = "PairNotTraded: the exchange does not know chz_usdt: was it delisted? It is parked"
    assert re.match(rf"\*\*chz_usdt\*\* {task}, 1 try: `{re.escape(unknown)}", delisted)
    assert re.match(rf"\*\*eth_usdt\*\* {task}, 4 tries: .*it returned none at all", empty), empty
    parked = {
        item.pair: item.parked_reason for item in pairs_table.tracked(Database(world.database_url)) if item.parked_at
    }
    assert set(parked) == {"chz_usdt"}
    assert "the exchange does not know chz_usdt" in str(parked["chz_usdt"])
    assert "chz_usdt" not in {item.pair for item in pairs_table.active(Database(world.database_url))}


def test_when_no_candles_are_fetched_one_message_is_posted(world: DagEnvironment) -> None:
    world.break_exchange(kind="418", retry_after_s=7200)
    before = len(world.embeds())

    run = world.run("train_pairs", {"pairs": ["eth_usdt"]})

    assert run.tries["fetch", "eth_usdt"] == 1, "the fetch waited for a ban of two hours"
    last = trainings.latest(Database(world.database_url), market="simulated", interval=Interval.H1)
    assert last["eth_usdt"].failure == "its candles could not be fetched"
    assert run.states["refresh_serving", ""] == "skipped"
    (embed,) = world.embeds()[before:]
    assert "eth_usdt" in embed["title"]
    assert "the exchange limits our requests (418) for 7200 s" in embed["description"]


@pytest.mark.parametrize(
    ("dag", "form", "reason"),
    [
        (
            "train_pairs",
            {"pair": ["btc_usdt"]},
            "parameter pair: there is no such parameter; the parameters of this DAG are "
            "as_of, pairs, pairs_per_job, pairs_per_task",
        ),
        (
            "train_foundation",
            {"pairs": ["btc_usdt"], "asof": "2026-01-01T00:00:00Z", "interval": "4h"},
            "parameter asof, interval: there is no such parameter; the parameters of this DAG are as_of, pairs",
        ),
        ("score_forecasts", {"Pairs": ["btc_usdt"]}, "as_of, pairs, pairs_per_task, retrain"),
        ("housekeeping", {"dryrun": False}, "parameter dryrun: there is no such parameter; the parameters of this DAG"),
        ("watch_service", {"pairs": []}, "parameter pairs: there is no such parameter; this DAG has no parameters"),
        ("publish_log", {"day": "2026-01-01"}, "this DAG has no parameters"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_a_parameter_that_the_dag_does_not_have_is_refused_by_name(
    world: DagEnvironment, dag: str, form: dict[str, object], reason: str
) -> None:
    before = len(world.embeds())

    run = world.run(dag, form)

    assert run.state == "failed"
    done = {task for (task, _), state in run.states.items() if state == "success"}
    assert done <= {"alarm", "log_scores"}, "a part of the refused run was carried out"  # these had no score to look at
    assert max(run.tries.values()) == 1, "a refusal was retried"
    (embed,) = world.embeds()[before:]
    assert embed["title"] == f"{dag}: run refused"
    assert reason in embed["description"]
