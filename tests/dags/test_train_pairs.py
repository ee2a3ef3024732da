"""Two real runs of train_pairs, one after the other, with a real Ray head.

The first has a compute budget for two of five pairs. A person names the pairs of the second, as of a time when one was
just listed; they share tasks, as pairs do when there are many, and another one has no candles.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair, Series
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import scores, trainings
from make_us_rich.database.pool import Database
from make_us_rich.database.trainings import LastTraining
from make_us_rich.documents import Score
from make_us_rich.pipeline.training_budget import TrainingNeeds
from make_us_rich.registry.client import CHAMPION, Registry
from tests.support.airflow_runs import DagEnvironment, Run

pytestmark = pytest.mark.timeout(900)

MARKET = "simulated"
# Pairs of no other test, because the tests share the registry.
PAIRS = ADA, DOGE, DOT, LTC, UNI, XRP = [Pair(base, "usdt") for base in ("ada", "doge", "dot", "ltc", "uni", "xrp")]
YOUNG, TWO_WEEKS_AFTER_ITS_LISTING = Pair("sui", "usdt"), "2024-09-16T00:00:00Z"
RECOVERS, DELISTED = DOGE, XRP
SLOW_S = 600.0  # which a pair took in earlier runs: much, so that the budgets suffice on a busy machine


@dataclass(frozen=True)
class Outcome:
    """A run, what it posted to Discord, and the last training of each pair after it."""

    run: Run
    embeds: list[dict[str, Any]]
    trainings: dict[str, LastTraining]

    def of(self, task: str) -> dict[str, str]:
        """Return the state of each mapped instance of a task, by its label."""
        return {label: state for (task_id, label), state in self.run.states.items() if task_id == task}


@pytest.fixture(scope="module")
def database(with_ray: DagEnvironment) -> Iterator[Database]:
    """Activate these pairs alone; all but one were trained long ago, by slow runs, and the forecasts of one drift."""
    newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    with_ray.airflow.forget_failures()
    with Database(with_ray.database_url) as database:
        for item in pairs_table.active(database):
            pairs_table.put(database, item.pair, plan="off")
        for pair in PAIRS:
            pairs_table.put(database, pair, plan="pooled")
        for pair in (DELISTED, YOUNG):
            pairs_table.put(database, pair, plan="off")
        for pair, hours_ago in ((ADA, 100), (DOGE, 500), (LTC, 300), (UNI, 400)):
            trainings.record(
                database,
                {pair: None},
                market=MARKET,
                interval=Interval.H1,
                as_of_ms=newest_ms - hours_ago * HOUR_MS,
                run_seconds={pair: SLOW_S},
            )
        bad = Score(n=168, skill_vs_naive=-1, t_vs_naive=-9, coverage_80=0, shift={}, drifted=True, reason="worse")
        scores.save(database, bad, market=MARKET, pair=LTC, interval=Interval.H1, as_of_ms=newest_ms)
        yield database
        for pair in (*PAIRS, YOUNG):
            pairs_table.remove(database, pair)
        with database.transaction() as cursor:
            cursor.execute("DELETE FROM scores WHERE pair = %s", (LTC,))


def _outcome(environment: DagEnvironment, database: Database, form: dict[str, object], minutes: int) -> Outcome:
    """Run train_pairs with a compute budget of so many minutes, of which four fifths are for training."""
    posted = len(environment.embeds())
    run = environment.run("train_pairs", form, MUR_TRAINING_MINUTES=str(minutes))
    last = trainings.latest(database, market=MARKET, interval=Interval.H1)
    return Outcome(run, environment.embeds()[posted:], last)


@pytest.fixture(scope="module")
def two_fit(with_ray: DagEnvironment, database: Database) -> Outcome:
    return _outcome(with_ray, database, {}, minutes=26)


@pytest.fixture(scope="module")
def named(with_ray: DagEnvironment, database: Database, two_fit: Outcome) -> Outcome:
    """A run whose five pairs a person named, where the budget would do for one.

    The exchange does not know one of them, and fails for a while for another.
    """
    with_ray.break_exchange(kind="unknown_symbol", symbol=DELISTED.symbol)
    with_ray.break_exchange(kind="500", symbol=RECOVERS.symbol, times=4)  # as often as the client tries
    for pair in (DELISTED, YOUNG):
        pairs_table.put(database, pair, plan="pooled")
    form = {"pairs": [ADA, DELISTED, DOT, RECOVERS, YOUNG], "as_of": TWO_WEEKS_AFTER_ITS_LISTING, "pairs_per_task": 6}
    return _outcome(with_ray, database, form, minutes=5)


def test_a_run_trains_the_pairs_that_need_it_most_and_postpones_the_others(two_fit: Outcome) -> None:
    assert two_fit.of("promote") == {DOT: "success", LTC: "success"}, two_fit.run.log[-5000:]
    assert set(two_fit.of("fetch")) == {BITCOIN, LTC, DOT}
    assert f"2 of 5 pairs in 26.0 min, where 2 fit: {DOT}, {LTC}" in two_fit.run.log
    assert "3 pairs do not fit into the run's compute budget" in two_fit.run.log
    assert f"later runs train them: {ADA}, {DOGE}, {UNI}" in two_fit.run.log
    assert two_fit.run.state == "success", two_fit.run.log[-5000:]
    assert two_fit.embeds == []


def test_the_next_run_trains_those_that_were_postponed_longest(
    with_ray: DagEnvironment, database: Database, two_fit: Outcome
) -> None:
    for pair in (DOT, LTC):
        last = two_fit.trainings[pair]
        assert last.trained_as_of_ms == last.tried_as_of_ms
        assert last.run_seconds not in (None, SLOW_S), "not measured anew in the run"
    next_ms = two_fit.trainings[DOT].tried_as_of_ms + HOUR_MS
    needs = TrainingNeeds.read(database, with_ray.typed_settings(), Interval.H1, next_ms)
    assert needs.by_need([ADA, DOGE, DOT, UNI], next_ms) == [DOGE, UNI, ADA, DOT]


def test_a_pair_without_candles_does_not_stop_the_others_of_its_task(with_ray: DagEnvironment, named: Outcome) -> None:
    run = named.run
    fetched = f"{ADA}, {BITCOIN}, {RECOVERS}, {DOT}, {YOUNG}"
    assert named.of("fetch") == {f"failed: {DELISTED}; fetched: {fetched}": "failed"}
    assert max(run.tries[task, label] for task, label in run.tries if task == "fetch") == 2
    assert named.trainings[DELISTED].failure == "its candles could not be fetched"
    with Registry(with_ray.typed_settings()) as registry:
        champions = {pair for pair in PAIRS if registry.find(Series(pair, Interval.H1).name, CHAMPION)}
    assert champions >= {ADA, RECOVERS}


def test_pairs_that_a_person_names_are_all_trained_whatever_the_budget(named: Outcome) -> None:
    assert all(word not in named.run.log for word in ("postponed:", "compute budget"))
    assert all(named.trainings[pair].run_seconds != SLOW_S for pair in (ADA, RECOVERS))


def test_a_pair_whose_training_fails_does_not_stop_the_others_of_its_task(named: Outcome) -> None:
    label = f"failed: {YOUNG}; promoted: {ADA}, {RECOVERS}; refused: {DOT}"
    assert named.of("promote") == {label: "failed"}, named.run.log[-5000:]
    (embed,) = named.embeds
    assert embed["title"] == f"train_pairs: {YOUNG}, {DELISTED} failed"
