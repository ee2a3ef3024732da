"""What one DAG run is about: which pairs, which interval, as of when."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context, Param
from airflow.sdk.exceptions import AirflowFailException

from make_us_rich.errors import InputError
from make_us_rich.intervals import interval_ms, last_close_ms
from make_us_rich.pairs import BITCOIN, Pair
from make_us_rich.settings import Settings


def run_plan(context: Context, settings: Settings) -> list[dict[str, Any]]:
    """The markets whose candles the run needs: its pairs, to be trained, and BTC, whose candles every model reads.

    Fails the run, without a retry, when its parameters name something that cannot be trained.
    """
    params = context["params"]
    try:
        interval = params["interval"]
        interval_ms(interval)
        pairs = {str(Pair.parse(text)) for text in params["pairs"]}
        as_of_ms = last_close_ms(_as_of_ms(context), interval)
    except InputError as error:
        raise AirflowFailException(f"parameter {error.field}: {error}") from None
    unknown = sorted(pairs.difference(settings.pairs))
    if not pairs or unknown:
        raise AirflowFailException(
            f"parameter pairs: {', '.join(unknown) or 'empty'}: choose from {', '.join(settings.pairs)}, "
            "the pairs of MUR_PAIRS"
        )
    return [
        {"pair": pair, "interval": interval, "as_of_ms": as_of_ms, "train": pair in pairs}
        for pair in sorted({*pairs, str(BITCOIN)})
    ]


def _as_of_ms(context: Context) -> int:
    """The form's as_of, else the end of the data interval, else the moment of the trigger."""
    given = context["params"].get("as_of")
    if given:
        as_of = datetime.fromisoformat(given)
        if as_of.tzinfo is None:
            as_of = as_of.replace(tzinfo=UTC)
        if as_of > datetime.now(UTC):
            raise InputError(f"{given} is in the future: name a past time, or leave it empty", field="as_of")
    else:
        as_of = context.get("data_interval_end") or context["dag_run"].run_after
    return int(as_of.timestamp() * 1000)


def trainable(plan: Sequence[dict[str, Any]], fetched: Sequence[str]) -> list[str]:
    """The run's pairs whose candles arrived. Fails the run when there are none."""
    arrived = set(fetched)
    pairs = [item["pair"] for item in plan if item["train"] and item["pair"] in arrived]
    if not pairs:
        raise AirflowFailException("the candles of no pair arrived: see the fetch tasks")
    return pairs


def job_command(module: str, pairs: Sequence[str], interval: str, as_of_ms: int) -> str:
    """The command line of a training job."""
    words = ["python", "-m", module, "--pairs", ",".join(pairs)]
    return shlex.join([*words, "--interval", interval, "--as-of-ms", str(as_of_ms)])


def run_params(settings: Settings) -> dict[str, Param]:
    """The trigger form of a training DAG."""
    return {
        "pairs": Param(
            list(settings.pairs), type="array", items={"type": "string"}, description="pairs to train"
        ),
        "interval": Param(settings.interval, type="string", description="candle interval"),
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",
            description="train on candles closed at or before this (UTC); empty: the newest close",
        ),
    }
