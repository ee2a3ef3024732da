"""Alerts about DAG runs: one Discord message for the failures of a run, and one for a run that is late.

A failing task records its failure as an XCom; `report`, the last task of the run, posts them together. A failure that
lasts is posted again only after REMIND_AFTER_S: an Airflow variable of each DAG holds when each was last posted.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from urllib.parse import quote

from airflow.sdk import Context, TriggerRule, Variable, get_current_context, task
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from dags.support.typed import typed
from make_us_rich.core.interval import Interval
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.documents import Document, JobResult, PairDocument
from make_us_rich.operations.alerts import GREEN, RED, Alert, post, quoted

log = logging.getLogger(__name__)

REMIND_AFTER_S = 6 * 3600
_XCOM_KEY = "failure"
_MAX_LISTED = 10
_MAX_REASON_CHARS = 300
_LATE_AFTER_MIN = 50
_UNFINISHED = ("queued", "running")


class RunRefused(AirflowFailException):
    """The parameters of the run name something that cannot be trained. Fails the run without a retry."""


class PairsFailed(AirflowException):
    """A task's work failed for some pairs: each is reported as a failure of its own.

    `reasons` by pair name; `errors` are those by which to decide on a retry, if a retry would try these pairs again.
    """

    def __init__(self, reasons: Mapping[str, str], errors: Iterable[Exception] = ()) -> None:
        super().__init__("; ".join(f"{pair}: {reason}" for pair, reason in reasons.items()))
        self.reasons = dict(reasons)
        self.errors = tuple(errors)


class Failure(Document):
    """A failed task instance, or one pair of it. `pair` is None for a task that works on no single pair."""

    task: str
    pair: str | None
    reason: str
    refused: bool = False  # the parameters of the run were wrong
    tries: int = 1
    link: str = ""

    @property
    def name(self) -> str:
        return self.pair or self.task


def record_failure(context: Context) -> None:
    """Failure callback: record why a task instance failed. Runs once, after its last try, and never raises."""
    try:
        instance = context["ti"]
        error = context.get("exception")
        reasons: dict[str | None, str] = {None: reason_of(error) if error else "no exception"}
        if isinstance(error, PairsFailed):
            reasons = dict(error.reasons.items())
        failures = [
            Failure(
                task=instance.task_id,
                pair=pair,
                reason=reason[:_MAX_REASON_CHARS],
                refused=isinstance(error, RunRefused),
                tries=instance.try_number,
                link=instance.log_url,
            )
            for pair, reason in reasons.items()
        ]
        instance.xcom_push(key=_XCOM_KEY, value=[failure.model_dump(mode="json") for failure in failures])
    except Exception:  # an error here must not hide the failure itself
        log.exception("the failure could not be recorded for the report")


def reason_of(error: BaseException | str) -> str:
    return f"{type(error).__name__}: {error}"


def post_failures(context: Context, pairs: Iterable[str], settings: Settings) -> list[Failure]:
    """Post the run's failures and recoveries to Discord, if any is new; return all failures of the run.

    `pairs` are the pairs that the run worked on.
    """
    states = _states(context)
    failures = _failures(context, states)
    ran = {task_id for task_id, found in states.items() if {"success", "failed"} & set(found.values())}
    variable = f"failing:{context['ti'].dag_id}"
    last_posted: dict[str, float] = Variable.get(variable, default={}, deserialize_json=True)
    update = failure_update(failures, set(pairs), {*ran, "run"}, last_posted, time.time())
    posted = update.worth_posting and post(
        failures_alert(context["ti"].dag_id, context["run_id"], update, failures, settings), settings
    )
    # Without a webhook the admin page is where messages are read, and this one is there.
    if posted or not update.worth_posting or not settings.discord_webhook_url.get_secret_value():
        Variable.set(variable, update.last_posted, serialize_json=True)
    return failures


@dataclass(frozen=True)
class FailureUpdate:
    """What changed since the last message about a DAG. Names are those of pairs and tasks."""

    failed: list[str]
    recovered: list[str]
    last_posted: dict[str, float]  # of each failing name, seconds since 1970
    worth_posting: bool


def failure_update(
    failures: Iterable[Failure], pairs: set[str], tasks: set[str], last_posted: Mapping[str, float], now: float
) -> FailureUpdate:
    """Compare a run's failures with what was posted before. `pairs` and `tasks` are those that this run worked on.

    A refused run is a person's mistake: it is posted each time, and never counts as failing or recovered.
    """
    failed = sorted({failure.name for failure in failures if not failure.refused})
    refused = any(failure.refused for failure in failures)
    # A run for some pairs says nothing about the others, and one that skipped a task nothing about that task.
    recovered = {name for name in last_posted if name not in failed and (name in pairs or name in tasks)}
    due = [name for name in failed if now - last_posted.get(name, 0) >= REMIND_AFTER_S]
    kept = {name: when for name, when in last_posted.items() if name not in recovered}
    return FailureUpdate(
        failed, sorted(recovered), kept | dict.fromkeys(due, now), worth_posting=bool(due or recovered or refused)
    )


def _states(context: Context) -> dict[str, dict[str, str]]:
    """Return by task the state of its instances; the name of a mapped one ends in an underscore and a number."""
    instance, run_id = context["ti"], context["run_id"]
    states = instance.get_task_states(instance.dag_id, run_ids=[run_id]).get(run_id, {})
    return {
        task_id: {name: state for name, state in states.items() if re.fullmatch(rf"{task_id}(_\d+)?", name)}
        for task_id in context["dag"].task_ids
    }


def _failures(context: Context, states: Mapping[str, Mapping[str, str]]) -> list[Failure]:
    """Read the recorded failures, and add one for the tasks that failed without recording any, such as killed ones."""
    failed_of = {
        task_id: [name for name, state in found.items() if state == "failed"] for task_id, found in states.items()
    }
    failed = sorted(chain.from_iterable(failed_of.values()))
    task_ids = sorted(task_id for task_id, names in failed_of.items() if names)
    pulled = context["ti"].xcom_pull(task_ids=task_ids, key=_XCOM_KEY) if task_ids else None
    recorded = [notes for notes in pulled or [] if notes]
    failures = [Failure.model_validate(note) for notes in recorded for note in notes]
    missing = len(failed) - len(recorded)
    if missing > 0:
        reason = f"{missing} failed without an error message (killed?): {', '.join(failed)}"
        failures.append(Failure(task="run", pair=None, reason=reason))
    return failures


def failures_alert(
    dag_id: str, run_id: str, update: FailureUpdate, failures: list[Failure], settings: Settings
) -> Alert:
    """Build the message about a run. Its links open in a browser outside of the inner network."""
    lines = [_line(failure, settings) for failure in failures[:_MAX_LISTED]]
    if len(failures) > _MAX_LISTED:
        lines.append(f"… and {len(failures) - _MAX_LISTED} more")
    if update.recovered:
        lines.append(f"works again: {', '.join(update.recovered)}")
    return _run_alert(
        dag_id, run_id, settings, f"{dag_id}{_headline(update, failures)}", "\n".join(lines), RED if failures else GREEN
    )


def _headline(update: FailureUpdate, failures: list[Failure]) -> str:
    if update.failed:
        return f": {', '.join(update.failed)} failed"
    return ": run refused" if failures else " works again"


def _line(failure: Failure, settings: Settings) -> str:
    pair = f"**{failure.pair}** " if failure.pair else ""
    # Airflow's link begins with the address that it listens on, which a browser may not reach.
    page = failure.link.partition("/dags/")[2]
    task = f"[{failure.task}]({settings.airflow_link_url}/dags/{page})" if page else failure.task
    tries = "1 try" if failure.tries == 1 else f"{failure.tries} tries"
    return f"{pair}{task}, {tries}: {quoted(failure.reason)}"


def _run_alert(dag_id: str, run_id: str, settings: Settings, title: str, text: str, color: str = RED) -> Alert:
    link = f"{settings.airflow_link_url}/dags/{dag_id}/runs/{quote(run_id)}"
    return Alert(title=title, text=text, fields={"DAG": dag_id, "Run": run_id}, link=link, color=color)


class LateRun(Document):
    """What Airflow tells a deadline callback about a run, by the names of its REST API."""

    dag_id: str
    dag_run_id: str
    run_type: str
    state: str


async def post_late_run(context: Mapping[str, object], late_after_min: int, **_: object) -> None:
    """Deadline callback: post that a run is late. Runs in the triggerer, once for a run.

    Leaves out backfills, whose runs wait for each other, and a run that failed in time: Airflow drops the deadline of
    a run only when it succeeds.
    """
    run = LateRun.model_validate(context["dag_run"])
    if run.run_type == "backfill" or run.state not in _UNFINISHED:
        return
    text = (
        f"The run is still {run.state} {late_after_min} minutes after it was due. "
        "It may hang: see which task is running."
    )
    settings = get_settings()
    alert = _run_alert(run.dag_id, run.dag_run_id, settings, f"{run.dag_id} is late", text)
    await asyncio.to_thread(post, alert, settings)


def deadline(interval: Interval) -> DeadlineAlert:
    """Return what reports a run that is not done in time, because a run that hangs never reaches its own report."""
    late_after_min = min(_LATE_AFTER_MIN, interval.ms // 75_000)  # four fifths of a shorter interval
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=late_after_min),
        callback=AsyncCallback(post_late_run, {"late_after_min": late_after_min}),
    )


@task(trigger_rule=TriggerRule.ALL_DONE, retries=0, on_failure_callback=None)
@typed
def report(
    pairs: list[PairDocument] | list[list[PairDocument]] | None, results: list[list[JobResult]] | None = None
) -> None:
    """Post the failures of the run to Discord in one message, and fail the run if there are any.

    `pairs` are those that the run worked on, maybe in groups; `results` say which of them it postponed.
    """
    postponed = {result.pair for result in chain.from_iterable(results or []) if result.status == "postponed"}
    documents = [each for found in pairs or [] for each in (found if isinstance(found, list) else [found])]
    worked_on = [str(document.pair) for document in documents if document.pair not in postponed]
    failures = post_failures(get_current_context(), worked_on, get_settings())
    if failures:
        raise AirflowFailException(f"failed: {', '.join(sorted({failure.name for failure in failures}))}")
