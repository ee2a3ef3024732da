"""One run with a different exchange fault for each pair, while the exchange's clock is slow for all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from tests.support.embedded_stack import EmbeddedStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

DAG = "train_pairs"
# The fault of each pair, and the reason that Discord receives; empty where the run recovers.
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "btc_usdt": ({"kind": "500", "times": 2}, ""),
    "eth_usdt": ({"kind": "429", "retry_after_s": 1, "times": 2}, ""),
    "bnb_usdt": ({"kind": "truncated", "times": 2}, ""),
    "sol_usdt": ({"kind": "timeout", "times": 1}, ""),
    "ada_usdt": ({"kind": "html", "times": 2}, ""),
    "chz_usdt": ({"kind": "gap"}, ""),
    "link_usdt": ({"kind": "open_last_candle"}, ""),
    "xrp_usdt": ({"kind": "418", "retry_after_s": 7200}, "the exchange limits our requests (418) for 7200 s"),
    "doge_usdt": ({"kind": "empty"}, "it returned none at all"),
    "ltc_usdt": ({"kind": "unknown_symbol"}, "It is parked"),
}
ADDED = set(FAULTS) - {"btc_usdt", "eth_usdt", "chz_usdt"}
FAILS = {pair for pair, (_, reason) in FAULTS.items() if reason}
RECOVERS = set(FAULTS) - FAILS


@dataclass(frozen=True)
class Outcome:
    state: str
    states: dict[tuple[str, str], str]
    tries: dict[tuple[str, str], int]
    embeds: list[dict[str, Any]]


@pytest.fixture(scope="module")
def outcome(stack: EmbeddedStack) -> Iterator[Outcome]:
    control = f"{stack.config.url('exchange')}/_control"
    for pair in ADDED:
        pairs_table.put(Database(stack.database_url), pair, plan="pooled")
    for pair, (fault, _) in FAULTS.items():
        symbol = pair.replace("_", "").upper()
        httpx.post(f"{control}/faults", json=fault | {"symbol": symbol}).raise_for_status()
    # by the exchange's clock the newest candle closes in ten minutes
    now_ms = time.time_ns() // 1_000_000
    behind_ms = Interval.H1.last_close_ms(now_ms) - now_ms - 600_000
    httpx.post(f"{control}/clock", json={"offset_ms": behind_ms}).raise_for_status()
    try:
        run_id = stack.airflow.trigger(DAG)
        wait_until(
            lambda: _fetched_again(stack, run_id) >= 2,  # doge_usdt retries for another reason
            120,
            "the fetches do not notice the slow clock",
        )
        httpx.post(f"{control}/clock", json={"offset_ms": 0}).raise_for_status()
        state = stack.wait_for_run(DAG, run_id, 400)
        tasks = stack.airflow.task_states(DAG, run_id)
        yield Outcome(
            state,
            {(task.task_id, task.label): task.state for task in tasks},
            {(task.task_id, task.label): task.try_number for task in tasks},
            stack.discord_embeds_of(run_id),
        )
    finally:
        httpx.delete(f"{control}/faults").raise_for_status()
        httpx.post(f"{control}/clock", json={"offset_ms": 0}).raise_for_status()
        for pair in ADDED:
            pairs_table.put(Database(stack.database_url), pair, plan="off")
        pairs_table.unpark(Database(stack.database_url), "ltc_usdt")


def _fetched_again(stack: EmbeddedStack, run_id: str) -> int:
    fetches = [task for task in stack.airflow.task_states(DAG, run_id) if task.task_id == "fetch"]
    return sum(task.state == "up_for_retry" or task.try_number > 1 for task in fetches)


@pytest.mark.parametrize("pair", sorted(RECOVERS))
def test_a_run_recovers(outcome: Outcome, pair: str) -> None:
    assert outcome.states["fetch", pair] == "success"
    assert outcome.states["promote", pair] == "success"


@pytest.mark.parametrize("pair", sorted(FAILS))
def test_a_pair_fails_alone_and_discord_has_the_reason(outcome: Outcome, pair: str) -> None:
    assert outcome.states["fetch", pair] == "failed"
    assert ("promote", pair) not in outcome.states
    (embed,) = outcome.embeds
    assert embed["title"] == f"{DAG}: {', '.join(sorted(FAILS))} failed"
    (line,) = [line for line in embed["description"].splitlines() if line.startswith(f"**{pair}**")]
    assert FAULTS[pair][1] in line


def test_a_slow_clock_costs_an_attempt_and_no_candle(outcome: Outcome, stack: EmbeddedStack) -> None:
    # one more attempt for the clock, and another where the pair has a fault of its own
    assert max(outcome.tries["fetch", pair] for pair in RECOVERS) in (2, 3)
    with stack.registry() as registry:
        as_of_ms = int(registry.versions("link_usdt_1h")[0].tags["as_of_ms"])
    assert time.time() * 1000 - as_of_ms < 2 * HOUR_MS


def test_permanent_failures_are_not_retried(outcome: Outcome) -> None:
    assert outcome.tries["fetch", "ltc_usdt"] == 1
    assert outcome.tries["fetch", "xrp_usdt"] == 1
    assert outcome.tries["fetch", "doge_usdt"] == 4
