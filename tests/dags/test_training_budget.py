"""Real runs of train_pairs whose compute budget does not suffice for every pair, with a real Ray head."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import scores, trainings
from make_us_rich.database.pool import Database
from make_us_rich.documents import Score
from tests.support.airflow_runs import AirflowHome, DagEnvironment, Run

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("three_active_pairs")]

MARKET = "simulated"
BTC, CHZ, ETH, SOL, XRP = (Pair(base, "usdt") for base in ("btc", "chz", "eth", "sol", "xrp"))


@pytest.fixture
def database(with_ray: DagEnvironment) -> Iterator[Database]:
    """Add two pairs, and trainings of the others that were slow and long ago."""
    newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    with Database(with_ray.database_url) as database:
        for pair in (SOL, XRP):
            pairs_table.put(database, pair)
        for pair, hours_ago in ((BTC, 100), (CHZ, 500), (ETH, 300), (XRP, 700)):
            trainings.record(
                database,
                {pair: True},
                market=MARKET,
                interval=Interval.H1,
                as_of_ms=newest_ms - hours_ago * HOUR_MS,
                run_seconds=30.0,
            )
        bad = Score(
            n=168,
            skill_vs_naive=-0.2,
            t_vs_naive=-5,
            coverage_80=0.5,
            shift={},
            drifted=True,
            reason="worse than naive",
        )
        scores.save(database, bad, market=MARKET, pair=ETH, interval=Interval.H1, as_of_ms=newest_ms)
        yield database
        for pair in (SOL, XRP):
            pairs_table.remove(database, pair)


def test_each_run_trains_the_pairs_that_need_it_most_and_postpones_the_others(
    with_ray: DagEnvironment, database: Database, tmp_path: Path
) -> None:
    two_fit = with_ray.settings | {"MUR_TRAINING_MINUTES": "2"}  # 2 pairs, of 30 s each, in 0.8 * 120 s - 30 s
    posted = len(with_ray.embeds())

    first, second, named = AirflowHome(tmp_path / "airflow", two_fit).runs(
        "train_pairs", [{}, {}, {"pairs": [BTC, CHZ, ETH, SOL, XRP]}]
    )

    assert _promoted(first) == {SOL: "success", ETH: "success"}, first.log[-5000:]
    assert _promoted(second) == {XRP: "success", CHZ: "success"}
    assert {pair for task, pair in first.states if task == "fetch"} == {BTC, ETH, SOL}
    assert [run.states["postpone", ""] for run in (first, second)] == ["skipped"] * 2
    assert "3 pairs do not fit into the run's compute budget" in first.log
    assert _promoted(named) == dict.fromkeys((BTC, CHZ, ETH, SOL, XRP), "success"), "pairs that a person named"
    assert named.states["postpone", ""] == "success"
    reported = {run.states["report", ""] for run in (first, second, named)}
    assert reported == {"failed"}, "there is no Serve application to update"
    titles = {embed["title"] for embed in with_ray.embeds()[posted:]}
    assert not {pair for pair in (BTC, CHZ, ETH, SOL, XRP) for title in titles if pair in title}, titles
    last = trainings.latest(database, market=MARKET, interval=Interval.H1)
    assert all(item.trained_as_of_ms == item.tried_as_of_ms for item in last.values())
    assert last[SOL].run_seconds > 0


def _promoted(run: Run) -> dict[str, str]:
    return {pair: state for (task, pair), state in run.states.items() if task == "promote"}
