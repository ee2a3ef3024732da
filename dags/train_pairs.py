"""Train, check, promote and serve every pair, each hour."""

from __future__ import annotations

from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Param, TriggerRule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.support.assets import CANDLES, FORECASTS, FOUNDATION, MODELS
from dags.support.deadline import DEADLINE
from dags.support.operator import RayJobOperator
from dags.support.runs import is_backfill, job_command, trainable
from dags.support.tasks import TRAINING_DAG, fetch, plan_run, report
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.documents import JobResult, TrainedResult

_SETTINGS = get_settings()
_JOBS_AT_ONCE = 2  # of all runs together, so that a backfill leaves the hourly run its place
# The grid's name of a job: its first pairs. Airflow keeps 250 characters of it, and refuses the task's end over more.
_JOB_LABEL = "{{ task.metadata['pairs'] | truncate(120) }}"
_RESULT_PAIR = "{{ task.op_kwargs['result']['pair'] }}"  # what the grid calls a mapped index

DOC = """
### From closed candles to served forecasts

Each hour, for every pair: **fetch** closed candles into S3 → **train** on Ray (features, sequences, split, scale,
train, convert, validate, upload, clean: the steps are in that task's log) → check the new model and **promote** it
if it beats the champion on the same held-out weeks → **refresh serving** → **report**.

A run sees candles closed at or before its `as_of` and nothing else: the end of its data interval, or what the trigger
form says. A pair that fails is reported to Discord and fails alone; the others are trained and served. A pair that was
trained as of the same time before is not trained again, so a repeated or cleared run costs little and changes nothing.

A **backfill** trains as of the end of each past interval and keeps each forecast for `score_forecasts`. It promotes
nothing.
"""


@dag(
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    **TRAINING_DAG
    | {
        "params": TRAINING_DAG["params"]
        | {
            "pairs_per_job": Param(
                50, type="integer", minimum=1, description="pairs that share one Ray job and its workers"
            )
        }
    },
    deadline=DEADLINE,
    doc_md=DOC,
    tags=["forecasting", "hourly"],
)
def train_pairs() -> None:
    plan = plan_run()
    fetched = fetch.expand(item=plan)
    batches = batch(plan, fetched)
    jobs = RayJobOperator.partial(
        task_id="train", map_index_template=_JOB_LABEL, max_active_tis_per_dag=_JOBS_AT_ONCE
    ).expand_kwargs(batches)
    promoted = promote.expand(result=collect(plan, fetched, batches, jobs.output))
    served = refresh_serving()
    [plan, promoted] >> served >> report(plan)


@task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
def batch(plan: list[dict[str, Any]], fetched: list[str]) -> list[dict[str, Any]]:
    """Share the pairs whose candles arrived among Ray jobs: starting one costs seconds, a pair in it much less.

    Pairs that an earlier run trained as of the same time are not trained again.
    """
    pairs = trainable(plan, fetched)
    done = _trained_before(pairs, plan[0])
    print(f"trained before: {', '.join(done) or 'none'}")
    left = [pair for pair in pairs if pair not in done]
    size = get_current_context()["params"]["pairs_per_job"]
    return [
        {
            "entrypoint": job_command("ray_jobs.train_pairs", share, plan[0]["interval"], plan[0]["as_of_ms"]),
            "metadata": {"pairs": ", ".join(share)},
        }
        for share in (left[start : start + size] for start in range(0, len(left), size))
    ]


@task(trigger_rule=TriggerRule.ALL_DONE)
def collect(
    plan: list[dict[str, Any]] | None,
    fetched: list[str],
    batches: list[dict[str, Any]] | None,
    submission_ids: list[str],
) -> list[dict[str, Any]]:
    """Collect the result of each pair; a pair without one was in a job that broke."""
    from make_us_rich.market.object_store import ObjectStore
    from make_us_rich.operations import job_results

    if plan is None or batches is None:
        raise AirflowSkipException("nothing was trained")
    bucket = ObjectStore.from_settings(_SETTINGS)
    pairs = trainable(plan, fetched)
    results = {result.pair: result for job in submission_ids for result in job_results.of_job(bucket, job)}
    results |= _trained_before([pair for pair in pairs if pair not in results], plan[0])
    lost = "its Ray job ended without a result for it: see the train task's log"
    found = [results.get(pair, JobResult(pair=Pair.parse(pair), status="failed", reason=lost)) for pair in pairs]
    return [result.model_dump(mode="json") for result in found]


def _trained_before(pairs: list[str], plan: dict[str, Any]) -> dict[str, JobResult]:
    """Map the pairs that an earlier run trained as of this time to their results."""
    from make_us_rich.market.object_store import ObjectStore
    from make_us_rich.operations import job_results
    from make_us_rich.registry.client import Registry

    bucket = ObjectStore.from_settings(_SETTINGS)
    with Registry(_SETTINGS) as registry:
        found = {
            pair: job_results.trained_before(
                registry, bucket, _SETTINGS, Pair.parse(pair), Interval(plan["interval"]), plan["as_of_ms"]
            )
            for pair in pairs
        }
    return {pair: result for pair, result in found.items() if result is not None}


@task(map_index_template=_RESULT_PAIR, inlets=[CANDLES, FOUNDATION], outlets=[MODELS])
def promote(result: dict[str, Any], run_id: str | None = None) -> str:
    """Make the new model the champion if it beats the old one on the same held-out candles.

    Refuses one that failed its training or its checks: the champion serves on. A backfill instead keeps the forecast
    that the model would have served at its time, for score_forecasts.
    """
    from make_us_rich.registry import promotion
    from make_us_rich.registry.client import TAG_AIRFLOW_RUN, Registry

    if result["status"] != "trained":
        raise AirflowFailException(result["reason"])
    trained = TrainedResult.model_validate(result)
    metrics = trained.metrics
    print(
        f"held-out skill against naive {metrics['skill_vs_naive']:+.2%}, 80 % band covers {metrics['coverage_80']:.1%}"
    )
    if is_backfill(get_current_context()):
        return _keep_forecast(trained)
    with Registry(_SETTINGS) as registry:
        challenger = registry.get(trained.name, trained.version)
        decided = challenger.tags.get(promotion.TAG_DECISION)
        if decided:
            return f"decided before: {decided}"
        where = f"train_pairs/runs/{run_id}"
        registry.set_tag(trained.name, trained.version, TAG_AIRFLOW_RUN, where)
        decision = promotion.promote(
            registry,
            _SETTINGS.database_url.get_secret_value(),
            challenger,
            trained.comparison,
            expiry_hours=_SETTINGS.model_expiry_hours,
        )
    print(decision)
    return decision.reason


def _keep_forecast(result: TrainedResult) -> str:
    from make_us_rich.database import forecasts

    if result.forecast is None:
        return "candles are missing just before its time: there is no forecast to keep"
    forecasts.record(
        _SETTINGS.database_url.get_secret_value(),
        result.forecast,
        market=_SETTINGS.market,
        pair=result.pair,
        interval=Interval(result.interval),
        as_of_ms=result.as_of_ms,
        version=result.version,
        last_close=result.forecast.last_close,
    )
    return "a backfill touches no champion; its forecast is kept"


@task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS, inlets=[MODELS], outlets=[FORECASTS])
def refresh_serving() -> None:
    """Let the service swap to the champions of this moment."""
    from make_us_rich.operations.serve_deploy import apply

    if is_backfill(get_current_context()):
        raise AirflowSkipException("a backfill promotes nothing")
    print(apply(_SETTINGS))


train_pairs()
