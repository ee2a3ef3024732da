"""Compare past forecasts with the closes that followed, and report pairs whose forecasts have drifted."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronDataIntervalTimetable, Param, TriggerRule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.support.tasks import (
    CANDLES,
    FORECASTS,
    MAX_FETCHES,
    SCORES,
    TRAINING_DAG,
    plan_run,
    report,
    store_candles,
    typed,
)
from make_us_rich.core.interval import Interval
from make_us_rich.core.settings import get_settings
from make_us_rich.database.pool import Database
from make_us_rich.documents import PairScore, RunItem
from make_us_rich.operations.airflow import dag_of
from make_us_rich.operations.schedules import scoring_cron

DOC = """
### Are the forecasts still good?

Some times a day, for every active pair: the forecasts of the last 168 candles, as they were first served, are compared
with the closes that followed, 1, 2, 3, 4, 6, 8, 12, 18 and 24 candles ahead. A forecast is skipped at a horizon, and
counted, when a candle before its target is missing. **score** stores the outcome of each forecast that was recorded
before the next close, with the losses of the naive, EWMA and GARCH forecasts as of the same time, for the track
record. It writes skill against the naive forecast and coverage of the 80 % band, at each horizon and in the mean, and
the shift of the market's features to the table `scores` and to MLflow's experiment `score_forecasts`; the dashboard's
overview shows the mean. **alarm** fails for a pair whose forecasts are worse than naive beyond noise in the mean over
the horizons, or whose band at one horizon is too wide or too narrow beyond noise, and **report** posts that to Discord.
A shift of the market is named as a possible cause, but never raises an alarm alone.

With the parameter `retrain`, an alarm starts **train_foundation** at once. **train_pairs** trains a drifting pair
earlier than others, where its compute budget does not suffice for all.
"""


class ForecastsDrifted(AirflowFailException):
    """The forecasts of a pair are worse than naive, or their band is too wide or too narrow, beyond noise."""


def score_forecasts(interval: Interval) -> None:
    """Create the DAG of one interval."""

    @dag(
        dag_id=dag_of("score_forecasts", interval),
        schedule=CronDataIntervalTimetable(scoring_cron(interval), timezone="UTC"),
        **TRAINING_DAG
        | {
            "params": TRAINING_DAG["params"]
            | {"retrain": Param(False, type="boolean", description="after an alarm, train the foundation model")}
        },
        doc_md=DOC,
        tags=["forecasting", interval.value, "quality"],
    )
    def create() -> None:
        items = plan_run(interval.value)
        scores = score.expand(item=trained_pairs(items))
        alarms = alarm.expand(scored=scores)
        retrain = TriggerDagRunOperator(task_id="retrain", trigger_dag_id=dag_of("train_foundation", interval))
        [log_scores(scores), alarms, retrain] >> report(items)
        alarms >> retrain_wanted(scores) >> retrain

    create()


@task
@typed
def trained_pairs(items: list[RunItem]) -> list[RunItem]:
    """Leave out the reference market, unless it is forecast too."""
    return [item for item in items if item.train]


@task(
    map_index_template="{{ task.op_kwargs['item']['pair'] }}",
    max_active_tis_per_dag=MAX_FETCHES,
    inlets=[FORECASTS],
    outlets=[CANDLES, SCORES],
)
@typed
def score(item: RunItem) -> PairScore:
    """Store the outcomes of one pair's served forecasts, and score its last week, as of the run.

    Stores the pair's candles first, because train_pairs stores only those of the pairs that it trains.
    """
    from make_us_rich.market.candle_store import CandleStore
    from make_us_rich.operations import outcomes, scoring

    settings = get_settings()
    store = CandleStore.from_settings(settings)
    store_candles(item)
    with Database.from_settings(settings) as database:
        of: dict[str, Any] = {"market": settings.market, "pair": item.pair, "interval": item.interval}
        recorded = outcomes.record(database, store, as_of_ms=item.as_of_ms, **of)
        found = scoring.score(database, store, as_of_ms=item.as_of_ms, **of)
    print(f"outcomes of {recorded} forecasts stored")
    print(found or "there is no forecast to score yet")
    return PairScore(
        market=settings.market, pair=item.pair, interval=item.interval, as_of_ms=item.as_of_ms, score=found
    )


@task(map_index_template="{{ task.op_kwargs['scored']['pair'] }}", retries=0)
@typed
def alarm(scored: PairScore) -> None:
    """Fail for a pair whose forecasts drifted."""
    if scored.score and scored.score.drifted:
        raise ForecastsDrifted(scored.score.reason)


@task(trigger_rule=TriggerRule.ALL_DONE)
@typed
def log_scores(scores: list[PairScore]) -> None:
    """Add the scores to MLflow: one run for each market, pair and interval."""
    from make_us_rich.operations import scoring

    scoring.log_to_mlflow(get_settings(), scores)


@task(trigger_rule=TriggerRule.ALL_DONE)
@typed
def retrain_wanted(scores: list[PairScore]) -> None:
    """Skip the early training, unless the form asks for it and a pair drifted."""
    drifted = [scored.pair for scored in scores if scored.score and scored.score.drifted]
    if not drifted or not get_current_context()["params"]["retrain"]:
        raise AirflowSkipException(
            f"drifted: {', '.join(drifted) or 'none'}; the form did not ask for an early training"
        )


for each in get_settings().intervals:
    score_forecasts(each)
