"""Compare what was forecast with what came, and tell when forecasts stop doing what they promise."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronDataIntervalTimetable, Param, TriggerRule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.support.assets import CANDLES, FORECASTS, SCORES
from dags.support.tasks import TRAINING_DAG, plan_run, report
from make_us_rich.core.interval import Interval
from make_us_rich.core.settings import get_settings

DOC = """
### Are the forecasts still good?

Every six hours, for every active pair: the forecasts of the last 168 candles, as they were first served, beside the
closes that came. **score** writes skill against the naive forecast, coverage of the 80 % band and the shift of the
market's features to the table `scores` and to MLflow's experiment `score_forecasts`; the dashboard's overview shows
it. **alarm** fails for a pair whose forecasts are worse than naive beyond noise, or whose band is too wide or too
narrow beyond noise, and **report** tells Discord. A market that moved is named as a reason, and is no alarm by itself.

With the parameter `retrain`, an alarm starts **train_foundation** at once. The hourly run trains each pair anyway.
"""


class ForecastsDrifted(AirflowFailException):
    """The forecasts of a pair are not what they were promised to be."""


@dag(
    schedule=CronDataIntervalTimetable("20 */6 * * *", timezone="UTC"),
    **TRAINING_DAG
    | {
        "params": TRAINING_DAG["params"]
        | {"retrain": Param(False, type="boolean", description="after an alarm, train the foundation model")}
    },
    doc_md=DOC,
    tags=["forecasting", "quality"],
)
def score_forecasts() -> None:
    plan = plan_run()
    scored = score.expand(item=trained_pairs(plan))
    alarms = alarm.expand(scored=scored)
    retrain = TriggerDagRunOperator(task_id="retrain", trigger_dag_id="train_foundation")
    [log_scores(scored), alarms, retrain] >> report(plan)
    alarms >> retrain_wanted(scored) >> retrain


@task
def trained_pairs(plan: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the reference market, unless it is forecast too."""
    return [item for item in plan if item["train"]]


@task(map_index_template="{{ task.op_kwargs['item']['pair'] }}", inlets=[CANDLES, FORECASTS], outlets=[SCORES])
def score(item: dict[str, Any]) -> dict[str, Any]:
    """Judge one pair's last week, as of the run."""
    from make_us_rich.core.pair import Pair
    from make_us_rich.market.candle_store import CandleStore
    from make_us_rich.operations import scoring

    settings = get_settings()
    verdict = scoring.score(
        settings.database_url.get_secret_value(),
        CandleStore.from_settings(settings),
        market=settings.market,
        pair=Pair.parse(item["pair"]),
        interval=Interval(item["interval"]),
        as_of_ms=item["as_of_ms"],
    )
    print(verdict or "no forecast to judge yet")
    return item | {"verdict": verdict.model_dump() if verdict else None}


@task(map_index_template="{{ task.op_kwargs['scored']['pair'] }}", retries=0)
def alarm(scored: dict[str, Any]) -> None:
    """Fail for a pair that drifted."""
    verdict = scored["verdict"]
    if verdict and verdict["drifted"]:
        raise ForecastsDrifted(verdict["reason"])


@task(trigger_rule=TriggerRule.ALL_DONE)
def log_scores(scored: list[dict[str, Any]]) -> None:
    """Add the scores to one MLflow run for each market, pair and interval."""
    from dags.support.score_log import log

    settings = get_settings()
    log(settings, [item for item in scored if item["verdict"]], settings.market)


@task(trigger_rule=TriggerRule.ALL_DONE)
def retrain_wanted(scored: list[dict[str, Any]]) -> None:
    """Skip the early training, unless it was asked for and a pair drifted."""
    drifted = [item["pair"] for item in scored if item["verdict"] and item["verdict"]["drifted"]]
    if not drifted or not get_current_context()["params"]["retrain"]:
        raise AirflowSkipException(f"drifted: {', '.join(drifted) or 'none'}; an early training was not asked for")


score_forecasts()
