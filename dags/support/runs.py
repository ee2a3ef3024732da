"""The scope of a DAG run: its pairs, interval and as_of, read from the trigger form and the schedule."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from airflow.sdk import Context, Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from make_us_rich.core.errors import InputError, UnknownPair
from make_us_rich.core.interval import TRAINED_INTERVALS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import RunItem


class RunRefused(AirflowFailException):
    """The parameters of the run name something that cannot be trained. Fails the run without a retry."""


def run_items(context: Context, settings: Settings) -> list[RunItem]:
    """Return the markets whose candles the run needs: its pairs, and BTC, whose candles every model reads.

    Raises RunRefused.
    """
    params = context["params"]
    try:
        interval = Interval.parse_trained(params["interval"])
        pairs = _pairs(params["pairs"], settings)
        as_of_ms = interval.last_close_ms(_as_of_ms(context))
    except InputError as error:
        raise RunRefused(f"parameter {error.field}: {error}") from None
    return [
        RunItem(pair=pair, interval=interval, as_of_ms=as_of_ms, train=pair in pairs)
        for pair in sorted({*pairs, BITCOIN})
    ]


def _pairs(names: Sequence[str], settings: Settings) -> set[Pair]:
    """Return the pairs that the form names, or else every active pair."""
    with Database.from_settings(settings) as database:
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
    if given:
        as_of = _parsed(given)
        if as_of > datetime.now(UTC):
            raise InputError(f"{given} is in the future: name a past time, or leave it empty", field="as_of")
    else:
        as_of = context.get("data_interval_end") or context["dag_run"].run_after
    return int(as_of.timestamp() * 1000)


def _parsed(text: str) -> datetime:
    try:
        as_of = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is not a time: write 2026-01-31T12:00:00Z", field="as_of") from None
    return as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)


def is_backfill(context: Context) -> bool:
    return bool(context["dag_run"].run_type == "backfill")


def trainable(items: Sequence[RunItem], fetched: Sequence[Pair]) -> list[RunItem]:
    """Return the items to train whose candles were fetched. Skips the task if there are none."""
    found = [item for item in items if item.train and item.pair in fetched]
    if not found:
        raise AirflowSkipException("no pair's candles could be fetched: see the fetch tasks")
    return found


def job_command(module: str, items: Sequence[RunItem]) -> str:
    """Return the command line of a job that trains these items, which share interval and as_of."""
    command = ["python", "-m", module, "--pairs", ",".join(str(item.pair) for item in items)]
    return shlex.join([*command, "--interval", items[0].interval, "--as-of-ms", str(items[0].as_of_ms)])


def run_params(settings: Settings) -> dict[str, Param]:
    """Return the trigger form of a training DAG."""
    return {
        "pairs": Param(
            [],
            type="array",
            items={"type": "string"},
            examples=[str(pair) for pair in settings.pairs],
            description="pairs to train, one on each line; empty: every active pair",
        ),
        "interval": Param(
            settings.interval,
            type="string",
            examples=list(TRAINED_INTERVALS),
            description="candle interval; only 1h is supported",
        ),
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",
            description="train on candles closed at or before this (UTC); empty: the newest close",
        ),
    }
