"""Mapped tasks: how pairs are divided among their instances, and the outcome of each pair."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from airflow.sdk import Param, get_current_context
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.exceptions import AirflowSkipException
from pydantic_core import to_jsonable_python

from dags.support.alerts import PairsFailed, reason_of
from make_us_rich.core.pair import Pair
from make_us_rich.documents import PairDocument

_log = logging.getLogger(__name__)
Item = TypeVar("Item", bound=PairDocument)
Value = TypeVar("Value")

# A task instance costs a second or two before it does anything: more pairs than these share few instances.
_MOST_ALONE, _SHARED_INSTANCES = 32, 8
# Airflow stores 250 characters.
PAIRS_LABEL = (
    "{{ outcomes | default(task.op_kwargs.values() | first | map(attribute='pair') | join(', '), true)"
    " | truncate(240, leeway=0) }}"
)
_FAILED, _SKIPPED = "failed", "skipped"

PAIRS_PER_TASK = Param(
    None,
    type=["null", "integer"],
    minimum=1,
    description=f"pairs that share a task; empty: one, or an eighth of more than {_MOST_ALONE}",
)


def in_groups(items: Sequence[Item]) -> list[list[Item]]:
    """Divide pairs among the instances of a mapped task: one each, or more when there are many pairs.

    The run's parameter `pairs_per_task` sets how many.
    """
    chosen: int | None = get_current_context()["params"].get("pairs_per_task")
    size = chosen or (1 if len(items) <= _MOST_ALONE else -(-len(items) // _SHARED_INSTANCES))
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def for_each_pair(items: Sequence[Item], work: Callable[[Item], tuple[str, Value]]) -> list[Value]:
    """Do the work of a mapped task instance for each pair of its group, and return the results.

    `work` returns an outcome in a word, such as "promoted", and a result. A pair that fails or is skipped does not keep
    the others from being tried; the label of a group in the grid then says the outcome of each. If any failed, the
    results of the others are the instance's return value all the same, and PairsFailed is raised.
    """
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
    if len(items) > 1:
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
