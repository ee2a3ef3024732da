"""What one DAG run is about: which pairs, which interval, as of when."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context, Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from make_us_rich.core.errors import InputError, UnknownPair
from make_us_rich.core.interval import TRAINED_INTERVALS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table


class RunRefused(AirflowFailException):
    """The run's parameters name something that cannot be trained."""


def run_plan(context: Context, settings: Settings) -> list[dict[str, Any]]:
    """The markets whose candles the run needs: its pairs, to be trained, and BTC, whose candles every model reads.

    Raises RunRefused, which fails the run without a retry.
    """
    params = context["params"]
    try:
        interval = Interval.parse_trained(params["interval"])
        pairs = _pairs(params["pairs"], settings)
        as_of_ms = interval.last_close_ms(_as_of_ms(context))
    except InputError as error:
        raise RunRefused(f"parameter {error.field}: {error}") from None
    return [
        {"pair": str(pair), "interval": interval, "as_of_ms": as_of_ms, "train": pair in pairs}
        for pair in sorted({*pairs, BITCOIN})
    ]


def _pairs(asked: Sequence[str], settings: Settings) -> set[Pair]:
    """Those that the form names, else every active one."""
    listed = {item.pair: item for item in pairs_table.tracked(settings.database_url.get_secret_value())}
    active = {name for name, item in listed.items() if item.active}
    wanted = {Pair.parse(text) for text in asked} or active
    if not wanted:
        raise UnknownPair("no pair is active: add one with `mkrich pairs add`", field="pairs")
    for pair in sorted(wanted - active):
        item = listed.get(pair)
        if item is None:
            known = ", ".join(sorted(active))
            raise UnknownPair(f"{pair} is not listed: choose from {known}, or add it", field="pairs")
        rests = f"parked ({item.parked_reason})" if item.parked_at else "off"
        raise UnknownPair(f"{pair} is {rests}: make it active first", field="pairs")
    return wanted


def _as_of_ms(context: Context) -> int:
    """The form's as_of, else the end of the data interval, else the moment of the trigger."""
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
        raise InputError(f"{text!r} is no time: write 2026-01-31T12:00:00Z", field="as_of") from None
    return as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)


def is_backfill(context: Context) -> bool:
    return bool(context["dag_run"].run_type == "backfill")


def trainable(plan: Sequence[dict[str, Any]], fetched: Sequence[str]) -> list[str]:
    """The run's pairs whose candles arrived. Skips the task when there are none: the fetch tasks say why."""
    arrived = set(fetched)
    pairs = [item["pair"] for item in plan if item["train"] and item["pair"] in arrived]
    if not pairs:
        raise AirflowSkipException("the candles of no pair arrived: see the fetch tasks")
    return pairs


def job_command(module: str, pairs: Sequence[str], interval: Interval, as_of_ms: int) -> str:
    """The command line of a training job."""
    words = ["python", "-m", module, "--pairs", ",".join(pairs)]
    return shlex.join([*words, "--interval", interval, "--as-of-ms", str(as_of_ms)])


def run_params(settings: Settings) -> dict[str, Param]:
    """The trigger form of a training DAG."""
    return {
        "pairs": Param(
            [],
            type="array",
            items={"type": "string"},
            examples=[str(pair) for pair in settings.pairs],
            description="pairs to train, one a line; empty: every active pair",
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
