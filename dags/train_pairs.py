"""Train, check, promote and serve every pair, as often as its candles close."""

from __future__ import annotations

from airflow.sdk import CronDataIntervalTimetable, Param, TriggerRule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.support.alerts import deadline
from dags.support.operator import RayJobOperator
from dags.support.tasks import (
    CANDLES,
    FORECASTS,
    FOUNDATION,
    MODELS,
    TRAINING_DAG,
    fetch,
    is_backfill,
    job_command,
    plan_run,
    report,
    trainable,
    typed,
)
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.database import forecasts
from make_us_rich.database.pool import Database
from make_us_rich.documents import JobResult, RunItem, TrainBatch, TrainedResult
from make_us_rich.operations.airflow import dag_of
from make_us_rich.operations.ray_jobs import job_results, trained_before
from make_us_rich.registry import promotion
from make_us_rich.registry.client import TAG_AIRFLOW_RUN, Registry

_SETTINGS = get_settings()
_MAX_JOBS = 2  # at a time over all runs, so that a backfill leaves room for the hourly run
# A job is labelled by its first pairs. Airflow stores 250 characters, and a longer label would fail the finished task.
_JOB_LABEL = "{{ task.metadata['pairs'] | truncate(120) }}"

_SCHEDULES = {
    Interval.M15: "*/15 * * * *",
    Interval.H1: "0 * * * *",
    Interval.H4: "0 */4 * * *",
    Interval.D1: "0 0 * * *",
}
DOC = """
### From closed candles to served forecasts

At each close, for every pair: **fetch** stores closed candles in S3 → **train** runs on Ray (features, sequences,
split, scale, train, convert, validate, upload, clean: the steps are in that task's log) → **promote** makes the new
model the champion if it beats the old one on the same held-out candles → **refresh serving** → **report**.

Each interval of `MUR_INTERVALS` has a DAG of its own: `train_pairs` for hourly candles, `train_pairs_4h` for others.

A run sees only candles closed at or before its `as_of`: the end of its data interval, or the time in the trigger form.
A pair that fails is reported to Discord; the others are trained and served. A pair that was already trained as of the
same time is not trained again, so a repeated or cleared run costs little and changes nothing.

A **backfill** trains as of the end of each past interval and stores each forecast, marked as backfilled. It promotes
nothing.
"""


def train_pairs(interval: Interval) -> None:
    """Create the DAG of one interval."""

    @dag(
        dag_id=dag_of("train_pairs", interval),
        schedule=CronDataIntervalTimetable(_SCHEDULES[interval], timezone="UTC"),
        **TRAINING_DAG
        | {
            "params": TRAINING_DAG["params"]
            | {
                "pairs_per_job": Param(
                    50, type="integer", minimum=1, description="pairs that share one Ray job and its workers"
                )
            }
        },
        deadline=deadline(interval),
        doc_md=DOC,
        tags=["forecasting", interval.value],
    )
    def create() -> None:
        items = plan_run(interval.value)
        fetched = fetch.expand(item=items)
        batches = batch(items, fetched)
        jobs = RayJobOperator.partial(
            task_id="train", map_index_template=_JOB_LABEL, max_active_tis_per_dag=_MAX_JOBS
        ).expand_kwargs(batches)
        promoted = promote.expand(result=collect(items, fetched, batches, jobs.output))
        served = refresh_serving()
        [items, promoted] >> served >> report(items)

    create()


@task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
@typed
def batch(items: list[RunItem], fetched: list[Pair]) -> list[TrainBatch]:
    """Divide the pairs whose candles were fetched among Ray jobs, because starting a job costs more than a pair in it.

    Leaves out pairs that an earlier run trained as of the same time.
    """
    ready = trainable(items, fetched)
    done = _trained_before(ready)
    print(f"trained before: {', '.join(done) or 'none'}")
    left = [item for item in ready if item.pair not in done]
    size = get_current_context()["params"]["pairs_per_job"]
    return [
        TrainBatch(
            entrypoint=job_command("ray_jobs.train_pairs", share),
            metadata={"pairs": ", ".join(item.pair for item in share)},
        )
        for share in (left[start : start + size] for start in range(0, len(left), size))
    ]


@task(trigger_rule=TriggerRule.ALL_DONE)
@typed
def collect(
    items: list[RunItem] | None, fetched: list[Pair], batches: list[TrainBatch] | None, submission_ids: list[str]
) -> list[JobResult]:
    """Return the result of each pair; one without a result was in a job that broke."""
    from make_us_rich.market.object_store import ObjectStore

    if items is None or batches is None:
        raise AirflowSkipException("nothing was trained")
    store = ObjectStore.from_settings(_SETTINGS)
    ready = trainable(items, fetched)
    results = {result.pair: result for job in submission_ids for result in job_results(store, job)}
    results |= _trained_before([item for item in ready if item.pair not in results])
    lost = "its Ray job ended without a result for it: see the train task's log"
    return [results.get(item.pair) or JobResult(pair=item.pair, status="failed", reason=lost) for item in ready]


def _trained_before(items: list[RunItem]) -> dict[Pair, JobResult]:
    """Return the results of the pairs that an earlier run trained as of the same time."""
    from make_us_rich.market.object_store import ObjectStore

    store = ObjectStore.from_settings(_SETTINGS)
    with Registry(_SETTINGS) as registry:
        found = [trained_before(registry, store, _SETTINGS, item.pair, item.interval, item.as_of_ms) for item in items]
    return {result.pair: result for result in found if result is not None}


@task(map_index_template="{{ task.op_kwargs['result']['pair'] }}", inlets=[CANDLES, FOUNDATION], outlets=[MODELS])
@typed
def promote(result: JobResult, run_id: str | None = None) -> str:
    """Make the new model the champion if it beats the old one on the same held-out candles.

    Fails for a pair whose training or checks failed; its champion stays. In a backfill it instead stores the forecast
    that the model would have made as of its time, marked as backfilled.
    """
    if result.status != "trained":
        raise AirflowFailException(result.reason)
    trained = TrainedResult.model_validate(result.model_dump())
    skill, coverage = trained.metrics["skill_vs_naive"], trained.metrics["coverage_80"]
    print(f"held-out skill against naive {skill:+.2%}, 80 % band covers {coverage:.1%}")
    with Registry(_SETTINGS) as registry, Database.from_settings(_SETTINGS) as database:
        challenger = registry.get(trained.name, trained.version)
        decided = challenger.tags.get(promotion.TAG_DECISION)
        if not decided:
            run = f"{dag_of('train_pairs', Interval(trained.interval))}/runs/{run_id}"
            registry.set_tag(trained.name, trained.version, TAG_AIRFLOW_RUN, run)
        if is_backfill():
            return _store_forecast(trained)
        if decided:
            return f"decided before: {decided}"
        decision = promotion.promote(
            registry, database, challenger, trained.comparison, expiry_hours=_SETTINGS.model_expiry_hours
        )
    print(decision)
    return decision.reason


def _store_forecast(result: TrainedResult) -> str:
    if result.forecast is None:
        return "candles are missing just before its as_of: there is no forecast to store"
    with Database.from_settings(_SETTINGS) as database:
        forecasts.record(
            database,
            result.forecast.horizons,
            market=_SETTINGS.market,
            pair=result.pair,
            interval=Interval(result.interval),
            as_of_ms=result.as_of_ms,
            version=result.version,
            last_close=result.forecast.last_close,
            backfilled=True,
        )
    return "a backfill promotes nothing; its forecast is stored"


@task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS, inlets=[MODELS], outlets=[FORECASTS])
def refresh_serving() -> None:
    """Let the service swap to the present champions."""
    from make_us_rich.operations.serve_deploy import apply

    if is_backfill():
        raise AirflowSkipException("a backfill promotes nothing")
    print(apply(_SETTINGS))


for each in _SETTINGS.intervals:
    train_pairs(each)
