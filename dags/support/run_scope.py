"""Which pairs a run works on and as of when, by its trigger form or its data interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg2
from airflow.sdk import Context, Param, get_current_context, get_parsing_context, task

from dags.support.alerts import RunRefused
from dags.support.retries import DAG_DEFAULTS
from dags.support.typed import typed
from make_us_rich.core.errors import InputError, UnknownPair
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.core.times import past_time, to_ms
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import RunItem

_SETTINGS = get_settings()


def _offered_pairs() -> list[str]:
    """Return the pairs of the trigger form: the active ones, or those of the settings while Postgres is away.

    A process that loads the DAG to run a task shows no form, so it does not read the table.
    """
    if get_parsing_context().dag_id is None:
        try:
            with Database.from_settings(_SETTINGS) as database:
                return [str(item.pair) for item in pairs_table.active(database)]
        except psycopg2.Error:  # away, or without tables before the first migration
            pass
    return [str(pair) for pair in _SETTINGS.pairs]


OFFERED_PAIRS = _offered_pairs()
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


def training_dag(**params: Param) -> dict[str, Any]:
    """Return the arguments of a DAG that works on pairs as of a time; `params` extend or replace its trigger form."""
    form = {
        "pairs": Param([], type="array", items={"type": "string"}, examples=OFFERED_PAIRS, description_md=_PAIRS_HELP),
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",
            description="train on candles closed at or before this (UTC); empty: the newest close",
        ),
    }
    return DAG_DEFAULTS | {"params": form | params}


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
def plan_run(interval: Interval) -> list[RunItem]:
    """Plan a run of all active pairs, or of those that the form names: see `planned`."""
    return planned(interval)


def planned(interval: Interval, *, backfill_of_all: bool = True) -> list[RunItem]:
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
    return to_ms(as_of)


def is_backfill() -> bool:
    return bool(get_current_context()["dag_run"].run_type == "backfill")
