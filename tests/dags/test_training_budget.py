"""Real runs of train_pairs whose compute budget does not suffice for every pair, with a real Ray head."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import scores, trainings
from make_us_rich.database.pool import Database
from make_us_rich.documents import Score
from tests.support.airflow_runs import AirflowHome, DagEnvironment, Run

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("three_active_pairs")]

MARKET = "simulated"
# Pairs of no other test, because the tests share the registry.
PAIRS = ADA, DOGE, DOT, LTC, XRP = [Pair(base, "usdt") for base in ("ada", "doge", "dot", "ltc", "xrp")]
NAMED = ADA, DOT, XRP


@pytest.fixture
def database(with_ray: DagEnvironment) -> Iterator[Database]:
    """Activate these pairs alone; all but one were trained long ago, by slow runs, and the forecasts of one drift."""
    newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    with Database(with_ray.database_url) as database:
        for item in pairs_table.active(database):
            pairs_table.put(database, item.pair, plan="off")
        for pair in PAIRS:
            pairs_table.put(database, pair, plan="pooled")
        for pair, hours_ago in ((ADA, 100), (DOGE, 500), (LTC, 300), (XRP, 700)):
            trainings.record(
                database,
                {pair: None},
                market=MARKET,
                interval=Interval.H1,
                as_of_ms=newest_ms - hours_ago * HOUR_MS,
                run_seconds={pair: 40.0},
            )
        bad = Score(n=168, skill_vs_naive=-1, t_vs_naive=-9, coverage_80=0, shift={}, drifted=True, reason="worse")
        scores.save(database, bad, market=MARKET, pair=LTC, interval=Interval.H1, as_of_ms=newest_ms)
        yield database
        for pair in PAIRS:
            pairs_table.remove(database, pair)
        with database.transaction() as cursor:
            cursor.execute("DELETE FROM scores WHERE pair = %s", (LTC,))


def test_each_run_trains_the_pairs_that_need_it_most_and_postpones_the_others(
    with_ray: DagEnvironment, database: Database, tmp_path: Path
) -> None:
    two_fit = with_ray.settings | {"MUR_TRAINING_MINUTES": "2"}  # 40 s a pair, in 0.8 * 120 s
    posted = len(with_ray.embeds())

    with AirflowHome(tmp_path / "airflow", two_fit) as airflow:
        first, second, named = (airflow.run("train_pairs", form) for form in ({}, {}, {"pairs": NAMED}))

    assert _promoted(first) == {DOT: "success", LTC: "success"}, first.log[-5000:]
    assert _promoted(second) == {XRP: "success", DOGE: "success"}
    assert {pair for task, pair in first.states if task == "fetch"} == {BITCOIN, LTC, DOT}
    assert [run.states["postpone", ""] for run in (first, second, named)] == ["skipped", "skipped", "success"]
    assert "3 pairs do not fit into the run's compute budget" in first.log
    assert _promoted(named) == dict.fromkeys(NAMED, "success"), "pairs that a person named"
    assert {run.state for run in (first, second, named)} == {"success"}, first.log[-5000:]
    assert with_ray.embeds()[posted:] == []
    last = trainings.latest(database, market=MARKET, interval=Interval.H1)
    assert {last[pair].trained_as_of_ms == last[pair].tried_as_of_ms for pair in PAIRS} == {True}
    assert 40.0 not in {last[pair].run_seconds for pair in NAMED}, "not measured anew in each run"


def _promoted(run: Run) -> dict[str, str]:
    return {pair: state for (task, pair), state in run.states.items() if task == "promote"}
