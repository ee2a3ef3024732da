"""Compare past forecasts with the closes that followed, and report pairs whose forecasts have drifted."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronDataIntervalTimetable, Param, TriggerRule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.support.alerts import PairsFailed, report
from dags.support.assets import CANDLES, FORECASTS, FOUNDATION, SCORES
from dags.support.fetch import MAX_FETCHES, store_candles
from dags.support.mapped import PAIRS_LABEL, PAIRS_PER_TASK, for_each_pair, in_groups
from dags.support.operator import RayJobOperator, job_command
from dags.support.run_scope import plan_run, training_dag
from dags.support.typed import typed
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Series, foundation_name
from make_us_rich.core.settings import get_settings
from make_us_rich.database.pool import Database
from make_us_rich.documents import PairScore, RunItem
from make_us_rich.pipeline.airflow import dag_of
from make_us_rich.record.schedules import scoring_cron
from make_us_rich.registry import adapted
from make_us_rich.registry.client import CHAMPION, Registry

DOC = """
### Are the forecasts still good?

Some times a day, for every active pair: **score** stores the outcome of each forecast that was recorded before the next
close, as it was first served: the closes 1, 2, 3, 4, 6, 8, 12, 18 and 24 candles ahead, and the losses of the naive,
EWMA and GARCH forecasts as of the same time. The track record is computed from these outcomes, and so is the score of
the last 168 candles: skill against the naive forecast and coverage of the 80 % band, at each horizon and in the mean,
and the shift of the market's features. It is written to the table `scores` and to MLflow's experiment
`score_forecasts`; the dashboard's overview shows the mean. A forecast is skipped at a horizon, and counted, when the
candle of its target is missing. **alarm** fails if there is a pair whose forecasts are worse than naive beyond noise in
the mean over the horizons, or whose band at one horizon is too wide or too narrow beyond noise, and **report** posts
each of them to Discord. A shift of the market is named as a possible cause, but never raises an alarm alone.

With the parameter `retrain`, an alarm starts **train_foundation** at once. **train_pairs** trains a drifting pair
earlier than others, where its compute budget does not suffice for all.

**adapt** adapts the foundation to the pairs that have no model of their own, once a day, and **serve_adapted** lets the
service use it; both are skipped when there is none.
"""


def score_forecasts(interval: Interval) -> None:
    """Create the DAG of one interval."""

    @dag(
        dag_id=dag_of("score_forecasts", interval),
        schedule=CronDataIntervalTimetable(scoring_cron(interval), timezone="UTC"),
        **training_dag(
            retrain=Param(False, type="boolean", description="after an alarm, train the foundation model"),
            pairs_per_task=PAIRS_PER_TASK,
        ),
        doc_md=DOC,
        tags=["forecasting", interval.value, "quality"],
    )
    def create() -> None:
        items = plan_run(interval.value)
        scores = score.expand(items=trained_pairs(items))
        alarmed = alarm(scores)
        retrain = TriggerDagRunOperator(task_id="retrain", trigger_dag_id=dag_of("train_foundation", interval))
        command = adapt_command(items)
        scores >> command  # whose tasks store the candles
        adapted_now = RayJobOperator(task_id="adapt", entrypoint=command, inlets=[CANDLES], outlets=[FOUNDATION])
        [log_scores(scores), alarmed, retrain, adapted_now >> serve_adapted(items)] >> report(items)
        alarmed >> retrain_wanted(scores) >> retrain

    create()


@task
@typed
def trained_pairs(items: list[RunItem]) -> list[list[RunItem]]:
    """Leave out the reference market, unless it is forecast too, and divide the pairs among the tasks that score."""
    return in_groups([item for item in items if item.train])


@task(map_index_template=PAIRS_LABEL, max_active_tis_per_dag=MAX_FETCHES, inlets=[FORECASTS], outlets=[CANDLES, SCORES])
@typed
def score(items: list[RunItem]) -> list[PairScore]:
    """Store the outcomes of the pairs' served forecasts, and score their last week, as of the run.

    Stores a pair's candles first, because train_pairs stores only those of the pairs that it trains.
    """
    return for_each_pair(items, _score)


def _score(item: RunItem) -> tuple[str, PairScore]:
    from make_us_rich.market.candle_store import CandleStore
    from make_us_rich.record import outcomes, scoring

    settings = get_settings()
    store = CandleStore.from_settings(settings)
    store_candles(item)
    with Database.from_settings(settings) as database:
        of: dict[str, Any] = {"market": settings.market, "pair": item.pair, "interval": item.interval}
        recorded = outcomes.record(database, store, as_of_ms=item.as_of_ms, **of)
        found = scoring.score(database, store, as_of_ms=item.as_of_ms, **of)
    print(f"{item.pair}: outcomes of {recorded} forecasts stored")
    print(f"{item.pair}: {found or 'there is no forecast to score yet'}")
    scored = PairScore(
        market=settings.market, pair=item.pair, interval=item.interval, as_of_ms=item.as_of_ms, score=found
    )
    return "scored" if found else "without forecasts", scored


@task(trigger_rule=TriggerRule.ALL_DONE, retries=0)
@typed
def alarm(scores: list[list[PairScore]]) -> None:
    """Fail for the pairs whose forecasts drifted."""
    drifted = _drifted(scores)
    if drifted:
        raise PairsFailed(drifted)


def _drifted(scores: Iterable[Iterable[PairScore]]) -> dict[str, str]:
    """Return by pair why its forecasts count as drifted."""
    found = [(scored.pair, scored.score) for scored in chain.from_iterable(scores)]
    return {str(pair): score.reason for pair, score in found if score and score.drifted}


@task(trigger_rule=TriggerRule.ALL_DONE)
@typed
def log_scores(scores: list[list[PairScore]]) -> None:
    """Add the scores to MLflow: one run for each market, pair and interval."""
    from make_us_rich.record import scoring

    scoring.log_to_mlflow(get_settings(), list(chain.from_iterable(scores)))


@task(trigger_rule=TriggerRule.ALL_DONE)
@typed
def retrain_wanted(scores: list[list[PairScore]]) -> None:
    """Skip the early training, unless the form asks for it and a pair drifted."""
    drifted = _drifted(scores)
    if not drifted or not get_current_context()["params"]["retrain"]:
        raise AirflowSkipException(
            f"drifted: {', '.join(drifted) or 'none'}; the form did not ask for an early training"
        )


@task(trigger_rule=TriggerRule.ALL_DONE)
@typed
def adapt_command(items: list[RunItem] | None) -> str:
    """Return the command line of the job that adapts the foundation to pairs without a model. Skips without any."""
    if items is None:
        raise AirflowSkipException("no pairs were chosen")
    with Registry(get_settings()) as registry:
        foundation = registry.find(foundation_name(items[0].interval), CHAMPION)
        if foundation is None:
            raise AirflowSkipException("there is no foundation to adapt")
        due = [
            item
            for item in items
            if item.train
            and not adapted.reason_against(registry, foundation, Series(item.pair, item.interval), item.as_of_ms)
        ]
    if not due:
        raise AirflowSkipException("every pair has a model of its own, or was adapted less than a day before")
    return job_command("ray_jobs.adapt_foundation", due)


@task(trigger_rule=TriggerRule.NONE_FAILED, inlets=[FOUNDATION], outlets=[FORECASTS])
@typed
def serve_adapted(items: list[RunItem]) -> None:
    """Let the service use the adapted foundations, those of an earlier train_pairs too. Skips without any."""
    from make_us_rich.pipeline.deployment import apply

    series = [Series(item.pair, item.interval) for item in items if item.train]
    with Registry(get_settings()) as registry:
        foundation = registry.find(foundation_name(items[0].interval), CHAMPION)
        names = [
            each.name
            for each in series
            if foundation
            and registry.find(each.name, CHAMPION) is None
            and adapted.find(registry, foundation, each.pair) is not None
        ]
    if not names:
        raise AirflowSkipException("no pair is forecast by an adapted foundation")
    print(apply(get_settings(), wait_for=names))


for each in get_settings().intervals:
    score_forecasts(each)
