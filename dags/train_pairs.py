"""Train, check, promote and serve every pair, as often as its candles close."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from itertools import chain

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.support.alerts import deadline, report
from dags.support.assets import CANDLES, FORECASTS, FOUNDATION, MODELS
from dags.support.fetch import fetch, trainable
from dags.support.mapped import PAIRS_LABEL, PAIRS_PER_TASK, for_each_pair, in_groups
from dags.support.operator import RayJobOperator, job_command
from dags.support.run_scope import is_backfill, planned, training_dag
from dags.support.typed import typed
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN, Pair, Series
from make_us_rich.core.settings import get_settings
from make_us_rich.core.times import current_ms
from make_us_rich.database import forecasts, trainings
from make_us_rich.database.pool import Database
from make_us_rich.documents import JobResult, RunItem, TrainBatch, TrainedResult
from make_us_rich.pipeline import training_budget
from make_us_rich.pipeline.airflow import dag_of
from make_us_rich.pipeline.ray_jobs import job_results
from make_us_rich.pipeline.training_budget import TrainingNeeds
from make_us_rich.registry import promotion
from make_us_rich.registry.client import TAG_AIRFLOW_RUN, Registry

_SETTINGS = get_settings()
_MAX_JOBS = 2  # at a time over all runs, so that a backfill leaves room for the hourly run
# One at a time in a run: of two that begin together one finds its CPUs taken, and Ray Train's controller then asks for
# them in a loop that takes half a core from the other.
_MAX_JOBS_OF_A_RUN = 1
_LEAST_TRAINING_S = 60.0  # for the start of a job and its first pairs
_FAILURE_CHARACTERS = 300
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

At each close, for every pair: **plan run** chooses the pairs → **fetch** stores closed candles in S3 → **train** runs
on Ray (features, sequences, split, scale, train, convert, validate, upload, clean: the steps are in that task's log) →
**promote** makes the new model the champion if it beats the old one on the same held-out candles → **refresh serving**
→ **report**.

Each interval of `MUR_INTERVALS` has a DAG of its own: `train_pairs` for hourly candles, `train_pairs_4h` for others.

**plan run** keeps the pairs that fit into the run's compute budget, `MUR_TRAINING_MINUTES`: first those that were never
trained, then those whose last training is oldest, where a pair whose forecasts drift counts as four times as old. With
few pairs that is all of them. Its log names the postponed ones, which later runs train; they are forecast all the same.
If training takes longer than expected, the job begins no further pair in time, and **promote** is skipped for these. A
run that names its pairs, and a backfill, trains all of them, however long it takes; its job is stopped only if its log
stands still for 40 minutes.

A run sees only candles closed at or before its `as_of`: the end of its data interval, or the time in the trigger form.
A pair that fails is reported to Discord; the others are trained and served. A pair that was already trained as of the
same time is not trained again, so a repeated or cleared run costs little and changes nothing.

A **backfill** trains as of the end of each past interval and stores each forecast, marked as backfilled. It promotes
nothing.
"""


def train_pairs(interval: Interval) -> None:
    """Create the DAG of one interval."""

    with DAG(
        dag_id=dag_of("train_pairs", interval),
        schedule=CronDataIntervalTimetable(_SCHEDULES[interval], timezone="UTC"),
        **training_dag(
            pairs_per_job=Param(
                150, type="integer", minimum=1, description="pairs that share one Ray job and its workers"
            ),
            pairs_per_task=PAIRS_PER_TASK,
        ),
        deadline=deadline(interval),
        doc_md=DOC,
        tags=["forecasting", interval.value],
    ):
        groups = plan_run(interval.value)
        fetched = fetch.expand(items=groups)
        batches = batch(groups, fetched)
        jobs = RayJobOperator.partial(
            task_id="train",
            map_index_template=_JOB_LABEL,
            max_active_tis_per_dag=_MAX_JOBS,
            max_active_tis_per_dagrun=_MAX_JOBS_OF_A_RUN,
        ).expand_kwargs(batches)
        results = collect(groups, fetched, batches, jobs.output)
        promoted = promote.expand(results=results)
        served = refresh_serving(interval.value, promoted)
        served >> report(groups, results)


@task
@typed
def plan_run(interval: Interval) -> list[list[RunItem]]:
    """Return the candles that the run needs, divided among the tasks that fetch.

    Leaves out, and names in its log, the pairs that do not fit into the run's compute budget. Raises RunRefused as
    `planned` does.
    """
    items = planned(interval, backfill_of_all=False)
    budget_s = _budget_s(items)
    return in_groups(items if budget_s is None else _within(budget_s, items))


def _within(budget_s: float, items: list[RunItem]) -> list[RunItem]:
    """Return the items of the pairs that need a training most and fit into the budget, and BTC's."""
    pairs, interval, as_of_ms = [item.pair for item in items if item.train], items[0].interval, items[0].as_of_ms
    with Database.from_settings(_SETTINGS) as database:
        needs = TrainingNeeds.read(database, _SETTINGS, interval, as_of_ms)
    most = needs.pairs_per_run(pairs, budget_s)
    by_need = needs.by_need(pairs, as_of_ms)
    chosen, postponed = by_need[:most], by_need[most:]
    print(f"{len(chosen)} of {len(pairs)} pairs in {budget_s / 60:.1f} min, where {most} fit: {', '.join(chosen)}")
    if postponed:
        print(
            f"{len(postponed)} pairs do not fit into the run's compute budget (MUR_TRAINING_MINUTES), and later runs "
            f"train them: {', '.join(postponed)}"
        )
    return [
        item.model_copy(update={"train": item.pair in chosen})
        for item in items
        if item.pair in chosen or item.pair == BITCOIN
    ]


def _budget_s(items: list[RunItem]) -> float | None:
    """Return the seconds that the run has; None if a person chose its pairs, or if it is a backfill."""
    if get_current_context()["params"]["pairs"] or is_backfill():
        return None
    return training_budget.budget_s(_SETTINGS, items[0].interval, items[0].as_of_ms)


def _running_s() -> float:
    """Return how long the run has been running."""
    began = get_current_context()["dag_run"].start_date
    return (datetime.now(UTC) - began).total_seconds() if began else 0.0


@task(trigger_rule=TriggerRule.ALL_DONE)
@typed
def batch(groups: list[list[RunItem]] | None, fetched: list[list[Pair]]) -> list[TrainBatch]:
    """Divide the pairs whose candles were fetched among Ray jobs, because starting a job costs more than a pair in it.

    The job itself skips pairs that an earlier run trained as of the same time, and copies their results.
    """
    if groups is None:
        raise AirflowSkipException("no pairs were chosen")
    items = list(chain.from_iterable(groups))
    ready = trainable(items, list(chain.from_iterable(fetched)))
    size, stop_at_ms = get_current_context()["params"]["pairs_per_job"], _stop_at_ms(items)
    return [
        TrainBatch(
            entrypoint=job_command("ray_jobs.train_pairs", share, stop_at_ms),
            metadata={"pairs": ", ".join(item.pair for item in share)},
            is_limited=stop_at_ms is not None,
        )
        for share in (ready[start : start + size] for start in range(0, len(ready), size))
    ]


def _stop_at_ms(items: list[RunItem]) -> int | None:
    """Return the time after which no further pair is begun, late enough for a job to start; None without a budget."""
    budget_s = _budget_s(items)
    if budget_s is None:
        return None
    left_s = max(training_budget.TRAINING_SHARE * budget_s - _running_s(), _LEAST_TRAINING_S)
    return current_ms() + int(left_s * 1000)


@task(trigger_rule=TriggerRule.ALL_DONE)
@typed
def collect(
    groups: list[list[RunItem]] | None,
    fetched: list[list[Pair]],
    batches: list[TrainBatch] | None,
    submission_ids: list[str],
) -> list[list[JobResult]]:
    """Return the result of each pair, divided among the tasks that promote. Records when each was trained.

    A pair without a result was in a job that broke.
    """
    from make_us_rich.market.object_store import ObjectStore

    items, with_candles = list(chain.from_iterable(groups or [])), list(chain.from_iterable(fetched))
    if batches is None:
        _record_trainings(items, with_candles, [], trained_now=set())
        raise AirflowSkipException("nothing was trained")
    store = ObjectStore.from_settings(_SETTINGS)
    ready = trainable(items, with_candles)
    results = {result.pair: result for job in submission_ids for result in job_results(store, job)}
    trained_now = {pair for pair, result in results.items() if result.status == "trained" and result.seconds > 0}
    lost = "its Ray job ended without a result for it: see the train task's log"
    found = [results.get(item.pair) or JobResult(pair=item.pair, status="failed", reason=lost) for item in ready]
    _record_trainings(items, with_candles, found, trained_now)
    return in_groups(found)


def _record_trainings(
    items: list[RunItem], fetched: list[Pair], results: list[JobResult], trained_now: set[Pair]
) -> None:
    """Record which pairs were trained, by which later runs choose theirs, and why others were not.

    A pair without candles was tried too. `trained_now`: those that no earlier run had trained, among which the time of
    this run is divided.
    """
    if is_backfill() or not items:
        return
    tried: dict[Pair, str | None] = {
        item.pair: "its candles could not be fetched" for item in items if item.train and item.pair not in fetched
    }
    for result in results:
        if result.status != "postponed":
            lost = "its worker died" if result.status == "begun" else "unknown"
            tried[result.pair] = None if result.status == "trained" else (result.reason or lost)[:_FAILURE_CHARACTERS]
    seconds_each = _running_s() / max(1, len(trained_now))
    with Database.from_settings(_SETTINGS) as database:
        trainings.record(
            database,
            tried,
            market=_SETTINGS.market,
            interval=items[0].interval,
            as_of_ms=items[0].as_of_ms,
            run_seconds=dict.fromkeys(trained_now, seconds_each),
        )


@task(map_index_template=PAIRS_LABEL, inlets=[CANDLES, FOUNDATION], outlets=[MODELS])
@typed
def promote(results: list[JobResult], run_id: str | None = None) -> list[Pair]:
    """Make the new model the champion if it beats the old one on the same held-out candles.

    Fails for a pair whose training or checks failed; its champion stays. Is skipped for a postponed pair. In a backfill
    it instead stores the forecast that the model would have made as of its time, marked as backfilled.
    """
    with Registry(_SETTINGS) as registry, Database.from_settings(_SETTINGS) as database:
        return for_each_pair(results, partial(_promote, registry, database, run_id))


def _promote(registry: Registry, database: Database, run_id: str | None, result: JobResult) -> tuple[str, Pair]:
    """Decide on the new model of one pair."""
    if result.status == "postponed":
        raise AirflowSkipException(result.reason)
    if result.status != "trained":
        raise AirflowFailException(result.reason)
    trained = TrainedResult.model_validate(result.model_dump())
    skill, coverage = trained.metrics["skill_vs_naive"], trained.metrics["coverage_80"]
    print(f"{result.pair}: held-out skill against naive {skill:+.2%}, 80 % band covers {coverage:.1%}")
    challenger = registry.get(trained.name, trained.version)
    decided = challenger.tags.get(promotion.TAG_DECISION)
    if not decided:
        run = f"{dag_of('train_pairs', Interval(trained.interval))}/runs/{run_id}"
        registry.set_tag(trained.name, trained.version, TAG_AIRFLOW_RUN, run)
    if is_backfill():
        return _store_forecast(database, trained), result.pair
    if decided:
        print(f"{result.pair}: decided before: {decided}")
        return "decided before", result.pair
    decision = promotion.promote(
        registry, database, challenger, trained.comparison, expiry_hours=_SETTINGS.model_expiry_hours
    )
    print(f"{result.pair}: {decision}")
    return "promoted" if decision.promoted else "refused", result.pair


def _store_forecast(database: Database, result: TrainedResult) -> str:
    """Store the forecast of a backfill, which promotes nothing; return the outcome."""
    if result.forecast is None:
        print(f"{result.pair}: candles are missing just before its as_of: there is no forecast to store")
        return "without forecast"
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
    return "forecast stored"


# ALL_DONE, because Airflow's rules that need a success skip the task when one pair is skipped, as postponed ones are.
@task(trigger_rule=TriggerRule.ALL_DONE, inlets=[MODELS], outlets=[FORECASTS])
@typed
def refresh_serving(interval: Interval, decided: list[list[Pair]] | None) -> None:
    """Let the service swap to the present champions, and wait for those that the run decided on."""
    from make_us_rich.pipeline.deployment import apply

    pairs = list(chain.from_iterable(decided or []))
    if not pairs:
        raise AirflowSkipException("no pair was trained: there is nothing new to serve")
    if is_backfill():
        raise AirflowSkipException("a backfill promotes nothing")
    print(apply(_SETTINGS, wait_for=[Series(pair, interval).name for pair in pairs]))


for each in _SETTINGS.intervals:
    train_pairs(each)
