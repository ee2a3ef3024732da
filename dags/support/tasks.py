"""What the DAGs share: tasks, assets, default arguments with the retry policy, the trigger form and scope of a run."""

from __future__ import annotations

import logging
import random
import shlex
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import wraps
from itertools import chain
from typing import Any, TypeVar, cast

import pendulum
import psycopg2
from airflow.sdk import (
    Asset,
    Context,
    Param,
    RetryDecision,
    RetryPolicy,
    TriggerRule,
    get_current_context,
    get_parsing_context,
    task,
)
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from pydantic import validate_call
from pydantic_core import to_jsonable_python

from dags.support.alerts import PairsFailed, RunRefused, post_failures, reason_of, record_failure
from make_us_rich.core.errors import (
    InputError,
    LocationRefused,
    MakeUsRichError,
    MarketUnavailable,
    PairNotTraded,
    RateLimited,
    UnknownPair,
)
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.core.times import past_time
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import JobResult, PairDocument, RunItem
from make_us_rich.registry.promotion import ChampionChanged

_log = logging.getLogger(__name__)
_SETTINGS = get_settings()
Item = TypeVar("Item", bound=PairDocument)
Value = TypeVar("Value")

# Airflow's asset graph shows how a forecast derives from candles and models.
CANDLES = Asset("candles", group="make_us_rich")
FOUNDATION = Asset("foundation_model", group="make_us_rich")
MODELS = Asset("models", group="make_us_rich")
FORECASTS = Asset("forecasts", group="make_us_rich")
SCORES = Asset("scores", group="make_us_rich")

# A task instance costs a second or two before it does anything: more pairs than these share few instances.
_MOST_ALONE, _SHARED_INSTANCES = 32, 8
# Airflow stores 250 characters.
PAIRS_LABEL = (
    "{{ outcomes | default(task.op_kwargs.values() | first | map(attribute='pair') | join(', '), true)"
    " | truncate(240, leeway=0) }}"
)
MAX_FETCHES = 4  # at a time over all runs of a DAG, because the exchange limits the requests of one address
_PARK_AFTER_MS = 24 * HOUR_MS  # a shorter halt may be maintenance of the exchange

_FAILED, _SKIPPED = "failed", "skipped"
_FIRST_DELAY_S = 5.0
_GROWTH = 3.0  # 5, 15, 45 s: each of our components restarts in less
_EXCHANGE_GROWTH = 2.0  # 5, 10, 20 s: one slow pair delays all, and the exchange client has retried already
_LONGEST_BAN_S = 15 * 60.0
_PERMANENT = (InputError, LocationRefused, PairNotTraded, ChampionChanged, AirflowFailException)


class RetryByFault(RetryPolicy):
    """Retries with exponential backoff and jitter; fails at once on an error that a retry cannot change."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        name = type(exception).__name__
        if isinstance(exception, PairsFailed) and exception.errors:
            decisions = [self.evaluate(each, try_number, max_tries, context) for each in exception.errors]
            return max(decisions, key=lambda each: each.retry_delay or timedelta())
        if isinstance(exception, _PERMANENT):
            return RetryDecision.fail(f"{name}: a retry changes nothing")
        if isinstance(exception, RateLimited):
            if exception.retry_after_s > _LONGEST_BAN_S:
                return RetryDecision.fail(f"{name}: the ban lasts longer than the run")
            # A request during the ban would prolong it.
            return _retry(exception.retry_after_s + random.uniform(1, 5), name)
        growth = _EXCHANGE_GROWTH if isinstance(exception, MarketUnavailable) else _GROWTH
        return _retry(_FIRST_DELAY_S * growth ** (try_number - 1) * random.uniform(0.8, 1.2), name)


def _retry(delay_s: float, name: str) -> RetryDecision:
    return RetryDecision.retry(timedelta(seconds=delay_s), f"{name}: retry in {delay_s:.0f} s")


DAG_DEFAULTS: dict[str, Any] = {
    "start_date": datetime(2024, 1, 1, tzinfo=pendulum.UTC),
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {
        "owner": "forecasting",
        "retries": 3,  # with the delays of the policy, they outlast a restart of any component
        "retry_policy": RetryByFault(),
        # The policy runs in the task's process, so not for a killed one. Airflow's default is five minutes.
        "retry_delay": timedelta(seconds=_FIRST_DELAY_S),
        "on_failure_callback": record_failure,
    },
}
"""Arguments of every DAG. Without catch-up, an outage is followed by one run for the newest interval."""


def _offered_pairs() -> list[str]:
    """Return the pairs of the trigger form: the active ones, or those of the settings while Postgres is away.

    A process that loads the DAG to run a task shows no form, so it asks nobody.
    """
    if get_parsing_context().dag_id is None:
        try:
            with Database.from_settings(_SETTINGS) as database:
                return [str(item.pair) for item in pairs_table.active(database)]
        except psycopg2.Error:  # away, or without tables before the first migration
            pass
    return [str(pair) for pair in _SETTINGS.pairs]


_PAIRS_HELP = """
Pairs to train; empty: every active pair. A pair that was added in the last two minutes is not in the list yet: write it
into *Advanced Options* as `{"pairs": ["sol_usdt"]}`.

**A backfill** of `train_pairs` must name its pairs: choose them, and tick *Override parameters on existing runs*.
Otherwise Airflow ignores this form, and the runs are refused.
"""

_NO_PAIRS_IN_A_BACKFILL = (
    "a backfill names its pairs: choose them and tick 'Override parameters on existing runs', without which Airflow "
    "ignores the form"
)

TRAINING_DAG: dict[str, Any] = DAG_DEFAULTS | {
    "params": {
        "pairs": Param(
            [], type="array", items={"type": "string"}, examples=_offered_pairs(), description_md=_PAIRS_HELP
        ),
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",
            description="train on candles closed at or before this (UTC); empty: the newest close",
        ),
    }
}
"""Arguments of the DAGs that work on pairs as of a time, with their trigger form."""
PAIRS_PER_TASK = Param(
    None,
    type=["null", "integer"],
    minimum=1,
    description=f"pairs that share a task; empty: one, or an eighth of more than {_MOST_ALONE}",
)


def typed(function: Callable[..., object]) -> Callable[..., Any]:
    """Parse a task's arguments by their annotations, and return its result as JSON, because XCom holds only JSON.

    Put it below `@task`. In the DAG file a task is called with XComArgs, so the wrapper accepts anything.
    """
    parsed = validate_call(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return to_jsonable_python(parsed(*args, **kwargs))

    return call


def refuse_unknown_parameters(context: Context) -> None:
    """Raise RunRefused when the run's conf has a name that no parameter of the DAG has: Airflow ignores such a name.

    The first tasks of every DAG call it.
    """
    known = context["dag"].params
    unknown = sorted(set(context["dag_run"].conf or {}) - set(known))
    if unknown:
        names = f"the parameters of this DAG are {', '.join(sorted(known))}" if known else "this DAG has no parameters"
        raise RunRefused(f"parameter {', '.join(unknown)}: there is no such parameter; {names}")


@task
@typed
def plan_run(interval: Interval, *, backfill_of_all: bool = True) -> list[RunItem]:
    """Return the markets whose candles the run needs: its pairs, and BTC, whose candles every model reads.

    Raises RunRefused when the trigger form names something that cannot be trained, and without `backfill_of_all` for a
    backfill that names no pairs.
    """
    context = get_current_context()
    refuse_unknown_parameters(context)
    params = context["params"]
    try:
        if is_backfill() and not params["pairs"] and not backfill_of_all:
            raise InputError(_NO_PAIRS_IN_A_BACKFILL, field="pairs")
        pairs = _pairs(params["pairs"])
        as_of_ms = interval.last_close_ms(_as_of_ms(context))
    except InputError as error:
        raise RunRefused(f"parameter {error.field}: {error}") from None
    return [
        RunItem(pair=pair, interval=interval, as_of_ms=as_of_ms, train=pair in pairs)
        for pair in sorted({*pairs, BITCOIN})
    ]


def _pairs(names: Sequence[str]) -> set[Pair]:
    """Return the pairs that the form names, or else every active pair."""
    with Database.from_settings(_SETTINGS) as database:
        tracked = {item.pair: item for item in pairs_table.tracked(database)}
    active = {pair for pair, item in tracked.items() if item.active}
    wanted = {Pair.parse(name) for name in names} or active
    if not wanted:
        raise UnknownPair("no pair is active: add one with `mkrich pairs add`", field="pairs")
    for pair in sorted(wanted - active):
        item = tracked.get(pair)
        if item is None:
            known = ", ".join(sorted(active))
            raise UnknownPair(f"{pair} is not listed: choose from {known}, or add it", field="pairs")
        state = f"parked ({item.parked_reason})" if item.parked_at else "off"
        raise UnknownPair(f"{pair} is {state}: make it active first", field="pairs")
    return wanted


def _as_of_ms(context: Context) -> int:
    """Return the as_of of the form, or else the end of the data interval, or else the time of the trigger."""
    given = context["params"].get("as_of")
    as_of = past_time(given) if given else context.get("data_interval_end") or context["dag_run"].run_after
    return int(as_of.timestamp() * 1000)


def is_backfill() -> bool:
    return bool(get_current_context()["dag_run"].run_type == "backfill")


def in_groups(items: Sequence[Item]) -> list[list[Item]]:
    """Divide pairs among the instances of a mapped task: one each, or more when there are many pairs.

    The run's parameter `pairs_per_task` sets how many.
    """
    chosen: int | None = get_current_context()["params"].get("pairs_per_task")
    size = chosen or (1 if len(items) <= _MOST_ALONE else -(-len(items) // _SHARED_INSTANCES))
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def for_each_pair(items: Sequence[Item], work: Callable[[Item], tuple[str, Value]]) -> list[Value]:
    """Do the work of a mapped task instance for each pair of its group, and return the results.

    `work` returns an outcome in a word, such as "promoted", and a result. In a group, a pair that fails or is skipped
    does not keep the others from being tried; the instance's label in the grid then says the outcome of each. If any
    failed, the results of the others are the instance's return value all the same, and PairsFailed is raised. A pair of
    its own raises its own error.
    """
    if len(items) == 1:
        outcome, value = work(items[0])
        print(f"{items[0].pair}: {outcome}")
        return [value]
    outcomes: dict[str, list[Pair]] = {}
    values: list[Value] = []
    errors: dict[Pair, Exception] = {}
    for item in items:
        try:
            outcome, value = work(item)
            values.append(value)
        except AirflowSkipException as skip:
            outcome = _SKIPPED
            print(f"{item.pair} is skipped: {skip}")
        except Exception as error:
            outcome, errors[item.pair] = _FAILED, error
            _log.exception("%s failed", item.pair)
        outcomes.setdefault(outcome, []).append(item.pair)
    context = get_current_context()
    label = "; ".join(f"{outcome}: {', '.join(outcomes[outcome])}" for outcome in sorted(outcomes, key=_by_urgency))
    cast(dict[str, Any], context)["outcomes"] = label
    print(label)
    if errors:
        context["ti"].xcom_push(BaseXCom.XCOM_RETURN_KEY, to_jsonable_python(values))
        raise PairsFailed({str(pair): reason_of(error) for pair, error in errors.items()}, errors.values())
    if outcomes.keys() == {_SKIPPED}:
        raise AirflowSkipException(label)
    return values


def _by_urgency(outcome: str) -> tuple[bool, bool]:
    """Sort a failure first and a skipped pair last, because a long label is cut off."""
    return outcome != _FAILED, outcome == _SKIPPED


def trainable(items: Sequence[RunItem], fetched: Sequence[Pair]) -> list[RunItem]:
    """Return the items to train whose candles were fetched. Skips the task if there are none."""
    found = [item for item in items if item.train and item.pair in fetched]
    if not found:
        raise AirflowSkipException("no pair's candles could be fetched: see the fetch tasks")
    return found


def job_command(module: str, items: Sequence[RunItem], stop_at_ms: int | None = None) -> str:
    """Return the command line of a job that trains these items, which share interval and as_of.

    `stop_at_ms`: time after which the job begins no further pair.
    """
    command = ["python", "-m", module, "--pairs", ",".join(str(item.pair) for item in items)]
    command += ["--interval", items[0].interval, "--as-of-ms", str(items[0].as_of_ms)]
    return shlex.join(command if stop_at_ms is None else [*command, "--stop-at-ms", str(stop_at_ms)])


def store_candles(item: RunItem) -> None:
    """Store the closed candles of one pair that S3 lacks. Parks a pair that the exchange has not traded for a day."""
    from make_us_rich.market.candle_store import CandleStore
    from make_us_rich.market.exchange import ExchangeClient

    try:
        fetched = CandleStore.from_settings(_SETTINGS).update(
            ExchangeClient(_SETTINGS.exchange_url),
            market=_SETTINGS.market,
            pair=item.pair,
            interval=item.interval,
            as_of_ms=item.as_of_ms,
            history_candles=_SETTINGS.training_candles(item.interval),
        )
    except PairNotTraded as error:
        if item.train and error.idle_ms >= _PARK_AFTER_MS:
            with Database.from_settings(_SETTINGS) as database:
                pairs_table.park(database, item.pair, str(error))
            _deploy_the_parking()
            raise PairNotTraded(f"{error} It is parked: later runs leave it out until it is made active.") from None
        raise
    print(f"{item.pair}: {fetched}")


def _deploy_the_parking() -> None:
    """Let the service stop the parked pair; a service that cannot be told now stops it at the next deployment."""
    from make_us_rich.pipeline.deployment import apply

    try:
        apply(_SETTINGS, wait=False)
    except (MakeUsRichError, psycopg2.Error) as error:
        print(f"the parked pair is served until the next deployment: {error}")


@task(map_index_template=PAIRS_LABEL, max_active_tis_per_dag=MAX_FETCHES, outlets=[CANDLES])
@typed
def fetch(items: list[RunItem]) -> list[Pair]:
    """Store the closed candles that S3 lacks. Parks a pair that the exchange has not traded for a day."""
    return for_each_pair(items, _fetch)


def _fetch(item: RunItem) -> tuple[str, Pair]:
    store_candles(item)
    return "fetched", item.pair


@task(trigger_rule=TriggerRule.ALL_DONE, retries=0, on_failure_callback=None)
@typed
def report(items: list[PairDocument] | None, results: list[list[JobResult]] | None = None) -> None:
    """Post the failures of the run to Discord in one message, and fail the run if there are any.

    `items` name the pairs that the run worked on; `results` say which of them it postponed.
    """
    postponed = {result.pair for result in chain.from_iterable(results or []) if result.status == "postponed"}
    worked_on = [str(item.pair) for item in items or [] if item.pair not in postponed]
    failures = post_failures(get_current_context(), worked_on, _SETTINGS)
    if failures:
        raise AirflowFailException(f"failed: {', '.join(sorted({failure.name for failure in failures}))}")
