"""A real run of train_pairs whose pairs share tasks, as they do when there are many, with a real Ray head."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import trainings
from make_us_rich.database.pool import Database
from make_us_rich.registry.client import CHAMPION, Registry
from tests.support.airflow_runs import DagEnvironment, Run

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("three_active_pairs")]

# Pairs of no other test, because the tests share the registry.
PAIRS = DELISTED, RECOVERS, TRAINED, YOUNG = [Pair(base, "usdt") for base in ("fil", "uni", "zec", "sui")]
TWO_WEEKS_AFTER_THE_LISTING = "2024-09-16T00:00:00Z"  # of the young pair


@pytest.fixture
def database(with_ray: DagEnvironment) -> Iterator[Database]:
    with Database(with_ray.database_url) as database:
        for pair in PAIRS:
            pairs_table.put(database, pair, plan="pooled")
        yield database
        for pair in PAIRS:
            pairs_table.remove(database, pair)


def test_a_pair_without_candles_does_not_stop_the_others_of_its_task(
    with_ray: DagEnvironment, database: Database
) -> None:
    with_ray.break_exchange(kind="unknown_symbol", symbol=DELISTED.symbol)
    with_ray.break_exchange(kind="500", symbol=RECOVERS.symbol, times=4)  # as often as the client tries
    posted = len(with_ray.embeds())

    run = with_ray.run("train_pairs", {"pairs": [DELISTED, RECOVERS, TRAINED], "pairs_per_task": 4})

    assert _states(run, "fetch") == {f"failed: {DELISTED}; fetched: btc_usdt, {RECOVERS}, {TRAINED}": "failed"}
    assert max(run.tries[task, label] for task, label in run.tries if task == "fetch") == 2
    assert _states(run, "promote") == {f"promoted: {RECOVERS}, {TRAINED}": "success"}, run.log[-5000:]
    (embed,) = with_ray.embeds()[posted:]
    assert embed["title"] == f"train_pairs: {DELISTED} failed"
    last = trainings.latest(database, market="simulated", interval=Interval.H1)
    assert last[DELISTED].failure == "its candles could not be fetched"
    assert _champions(with_ray) >= {RECOVERS, TRAINED}


def test_a_pair_whose_training_fails_does_not_stop_the_others_of_its_task(
    with_ray: DagEnvironment, database: Database
) -> None:
    posted = len(with_ray.embeds())
    asked = {"pairs": [YOUNG, TRAINED], "as_of": TWO_WEEKS_AFTER_THE_LISTING, "pairs_per_task": 2}

    run = with_ray.run("train_pairs", asked)

    assert _states(run, "promote") == {f"failed: {YOUNG}; refused: {TRAINED}": "failed"}, run.log[-5000:]
    (embed,) = with_ray.embeds()[posted:]
    assert embed["title"] == f"train_pairs: {YOUNG} failed"


def _states(run: Run, task: str) -> dict[str, str]:
    return {label: state for (task_id, label), state in run.states.items() if task_id == task}


def _champions(environment: DagEnvironment) -> set[Pair]:
    with Registry(environment.typed_settings()) as registry:
        return {pair for pair in PAIRS if registry.find(Series(pair, Interval.H1).name, CHAMPION)}
