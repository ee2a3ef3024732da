"""The words for skill, its margin, coverage, and when a pair is trained, for all pages of members.

A skill is the part of a baseline's pinball loss that the forecasts saved. A margin is half of its 95 % interval.
"""

from __future__ import annotations

from textwrap import shorten

from dash_app.components.formatting import as_sentence, percent, utc_time
from make_us_rich.pipeline.training_budget import DueTraining

_FAILURE_CHARACTERS = 100


def skill(value: float | None, margin: float | None = None, *, unknown: str = "–") -> str:
    """Write a skill with its margin: +2.3 % ± 0.8 %. `unknown`: for one that was never measured."""
    if value is None:
        return unknown
    return percent(value, decimals=1, signed=True) + ("" if margin is None else f" ± {percent(margin, decimals=1)}")


def coverage(value: float | None, *, unknown: str = "–") -> str:
    """Write a share of closes inside a band. `unknown`: for one that was never measured."""
    return unknown if value is None else percent(value, decimals=1)


def compared_with_naive(value: float | None, margin: float | None) -> str:
    """Write how a model compares with the naive forecast, and how sure that is."""
    if value is None:
        return "no score yet"
    by, side = percent(abs(value), decimals=1), "better" if value > 0 else "worse"
    if margin is None:
        return f"{side} than naive by {by}, margin unknown" if value else "as good as naive, margin unknown"
    if abs(value) <= margin:
        return f"no clear difference ({skill(value, margin)})"
    return f"{side} than naive by {by} ± {percent(margin, decimals=1)}"


def compared(value: float, margin: float, baseline: str) -> str:
    """Write how the served forecasts compare with a baseline: 2.1 % ± 0.8 % better than GARCH."""
    if abs(value) <= margin:
        return f"no clear difference from {baseline} ({skill(value, margin)})"
    by = f"{percent(abs(value), decimals=1)} ± {percent(margin, decimals=1)}"
    return f"{by} {'better' if value > 0 else 'worse'} than {baseline}"


def last_training(due: DueTraining) -> str:
    """Write the close up to which a pair was trained, and why a newer training failed."""
    trained = utc_time(due.trained_ms) if due.trained_ms else "never"
    failed = f"; failed {utc_time(due.failed_ms)}" if due.failed_ms else ""
    return trained + failed + (f": {shorten(due.failure, _FAILURE_CHARACTERS)}" if due.failure else "")


def next_training(due: DueTraining) -> str:
    return f"{utc_time(due.due_ms)}, {due.why}"


def trainings(due: DueTraining) -> str:
    """Write the last and the next training as sentences."""
    trained = f"as of {utc_time(due.trained_ms)}" if due.trained_ms else "never"
    failed = f" The training as of {utc_time(due.failed_ms)} failed" if due.failed_ms else ""
    failed += f": {as_sentence(due.failure)}" if due.failure else "." if failed else ""
    return f"Last trained: {trained}.{failed} Next training: about {next_training(due)}."
