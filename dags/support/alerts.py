"""One message a run to Discord: which pairs failed, where, why; and one when they work again.

A failing task leaves a note; the run's last task reads the notes and posts. What keeps failing is not posted again
before REMIND_AFTER_S. The memory of what was posted is an Airflow variable.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from airflow.sdk import Context, Variable
from airflow.sdk.exceptions import AirflowException

from dags.support.runs import RunRefused
from make_us_rich.core.settings import Settings
from make_us_rich.operations.alerts import GREEN, RED, Alert, post

log = logging.getLogger(__name__)

NOTE = "failure"
REMIND_AFTER_S = 6 * 3600
_MOST_LISTED = 10
_REASON_CHARS = 300

Note = dict[str, Any]


class PairsFailed(AirflowException):
    """One task's work failed for some of its pairs. `reasons` by pair; each is told and remembered by itself."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{pair}: {reason}" for pair, reason in reasons.items()))
        self.reasons = dict(reasons)


def remember_failure(context: Context) -> None:
    """A failure callback: runs once a failed task or mapped index, after its last try. Never raises."""
    try:
        instance = context["ti"]
        error = context.get("exception")
        note = {
            "task": instance.task_id,
            "refused": isinstance(error, RunRefused),
            "tries": instance.try_number,
            "link": instance.log_url,
        }
        instance.xcom_push(key=NOTE, value=[note | who for who in _who_and_why(context, error)])
    except Exception:  # the failure itself matters more than the note about it
        log.exception("the failure could not be noted for the report")


def _who_and_why(context: Context, error: BaseException | str | None) -> list[dict[str, str | None]]:
    if isinstance(error, PairsFailed):
        return [{"pair": pair, "reason": reason[:_REASON_CHARS]} for pair, reason in error.reasons.items()]
    reason = f"{type(error).__name__}: {error}"[:_REASON_CHARS] if error else "no exception"
    return [{"pair": _pair_of(context), "reason": reason}]


def report(context: Context, covered: Iterable[str], settings: Settings) -> list[Note]:
    """Post what is new about the run's failures; returns them. `covered` are the pairs that the run worked on."""
    failures = _failures(context)
    memory = _read_memory(context)
    news = what_is_new(failures, set(covered), {*context["dag"].task_ids, "run"}, memory, time.time())
    if news.to_tell:
        alert = failures_alert(context["ti"].dag_id, context["run_id"], news, failures, settings)
        if post(alert, settings):
            _write_memory(context, news.memory)
    else:
        _write_memory(context, news.memory)
    return failures


@dataclass(frozen=True)
class News:
    failed: list[str]
    recovered: list[str]
    memory: dict[str, float]  # who fails, and when that was last posted
    to_tell: bool


def what_is_new(
    failures: Iterable[Note], covered: set[str], tasks: set[str], memory: Mapping[str, float], now: float
) -> News:
    """A name is a pair, or a task that works for no single pair. `covered` pairs and `tasks` were tried by this run.

    A refused run is a person's slip: told each time, and nothing that could work again.
    """
    failed = sorted({note["pair"] or note["task"] for note in failures if not note["refused"]})
    refused = any(note["refused"] for note in failures)
    # a run for some pairs says nothing about the others
    gone = {name for name in memory if name not in failed and (name in covered or name in tasks)}
    due = [name for name in failed if now - memory.get(name, 0) >= REMIND_AFTER_S]
    kept = {name: when for name, when in memory.items() if name not in gone and name not in due}
    return News(failed, sorted(gone), kept | dict.fromkeys(due, now), bool(due or gone or refused))


def _failures(context: Context) -> list[Note]:
    """The notes of the failed tasks; a task that was killed left none, and is named all the same."""
    instance, run_id = context["ti"], context["run_id"]
    states = instance.get_task_states(instance.dag_id, run_ids=[run_id]).get(run_id, {})
    failed = sorted(name for name, state in states.items() if state == "failed")
    task_ids = sorted({task_id for task_id in context["dag"].task_ids if _any_of(task_id, failed)})
    left = [note for note in instance.xcom_pull(task_ids=task_ids, key=NOTE) or [] if note] if task_ids else []
    notes = [note for of_one_task in left for note in of_one_task]
    silent = len(failed) - len(left)
    if silent > 0:
        reason = f"{silent} failed without a word (killed?): {', '.join(failed)}"
        notes.append({"task": "run", "pair": None, "reason": reason, "refused": False, "tries": 1, "link": ""})
    return notes


def _any_of(task_id: str, failed: Iterable[str]) -> bool:
    return any(name == task_id or name.startswith(f"{task_id}_") for name in failed)


def failures_alert(dag_id: str, run_id: str, news: News, failures: list[Note], settings: Settings) -> Alert:
    """Build the message about a run. Every link in it opens in a browser outside the inner network."""
    lines = [_line(note, settings) for note in failures[:_MOST_LISTED]]
    if len(failures) > _MOST_LISTED:
        lines.append(f"… and {len(failures) - _MOST_LISTED} more")
    if news.recovered:
        lines.append(f"works again: {', '.join(news.recovered)}")
    return Alert(
        title=f"{dag_id}{_headline(news, failures)}",
        text="\n".join(lines),
        fields={"DAG": dag_id, "Run": run_id},
        link=f"{settings.airflow_link_url}/dags/{dag_id}/runs/{quote(run_id)}",
        color=RED if failures else GREEN,
    )


def _headline(news: News, failures: list[Note]) -> str:
    if news.failed:
        return f": {', '.join(news.failed)} failed"
    return ": run refused" if failures else " works again"


def _line(note: Note, settings: Settings) -> str:
    who = f"**{note['pair']}** " if note["pair"] else ""
    # Airflow writes its own base_url before /dags/, which names the host that it listens on.
    page = note["link"].partition("/dags/")[2]
    where = f"[{note['task']}]({settings.airflow_link_url}/dags/{page})" if page else note["task"]
    tries = "1 try" if note["tries"] == 1 else f"{note['tries']} tries"
    return f"{who}{where}, {tries}: {note['reason']}"


def _read_memory(context: Context) -> dict[str, float]:
    memory: dict[str, float] = Variable.get(_variable(context), default={}, deserialize_json=True)
    return memory


def _write_memory(context: Context, memory: Mapping[str, float]) -> None:
    Variable.set(_variable(context), dict(memory), serialize_json=True)


def _variable(context: Context) -> str:
    return f"failing:{context['ti'].dag_id}"


def _pair_of(context: Context) -> str | None:
    """The pair that a mapped task works on."""
    arguments = getattr(context["task"], "op_kwargs", None) or {}
    item = next((value for value in arguments.values() if isinstance(value, dict) and "pair" in value), {})
    pair: str | None = item.get("pair")
    return pair
