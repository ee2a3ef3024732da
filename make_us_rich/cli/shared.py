"""What several commands use: options, output, and the settings of the stack that they work on."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.core.times import utc_text
from make_us_rich.database.pool import Database
from make_us_rich.pipeline.training_budget import DueTraining

if TYPE_CHECKING:
    from make_us_rich.embedded.stack_config import StackConfig

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Pairs = Annotated[list[Pair] | None, typer.Argument(parser=Pair.parse, help="pairs such as btc_usdt; none: every pair")]
IntervalOption = Annotated[
    str | None, typer.Option("--interval", help="candle interval, one of MUR_INTERVALS; by default the first of them")
]
OnePair = Annotated[Pair, typer.Argument(parser=Pair.parse, help="a pair such as btc_usdt")]
SomePairs = Annotated[list[Pair], typer.Argument(parser=Pair.parse, help="pairs such as btc_usdt eth_usdt")]


def stack_here() -> StackConfig | None:
    """Return the embedded stack that was started here; None where MUR_DATABASE_URL names another installation.

    `settings_here` sets that variable to the stack's own, so ask before.
    """
    if "MUR_DATABASE_URL" not in os.environ:
        with suppress(ImportError):  # an installation without the extra `stack` has no embedded stack
            from make_us_rich.embedded.stack_config import saved_stack_config

            return saved_stack_config()
    return None


def settings_here() -> Settings:
    """Return the environment's settings; without MUR_DATABASE_URL, those of the embedded stack started here."""
    config = stack_here()
    if config is not None:
        from make_us_rich.embedded.environment import forget_foreign_variables
        from make_us_rich.embedded.lifecycle import open_stack

        environment = open_stack(config).environment
        forget_foreign_variables()
        os.environ.update({key: value for key, value in environment.items() if key.startswith("MUR_")})
    return get_settings()


def database_here() -> Database:
    """Return the database of `settings_here`; the caller closes it with a `with` block."""
    return Database.from_settings(settings_here())


def audit(database: Database, action: str, subject: str, detail: str = "") -> None:
    """Add an action of the command line to the audit log."""
    from make_us_rich.accounts import COMMAND_LINE
    from make_us_rich.accounts.audit import AuditLog

    AuditLog(database).write(COMMAND_LINE, action, subject, detail)


def split_pairs(text: str) -> list[Pair]:
    """Read pairs from a comma-separated option, each once. Raises UnknownPair."""
    return [Pair.parse(part) for part in dict.fromkeys(text.split(","))] if text else []


def print_json(value: object) -> None:
    """Print a value as JSON; what JSON does not know, such as a time, is printed as text."""
    typer.echo(json.dumps(value, default=str))


def time_cell(time_ms: int) -> str:
    """Return a time for a table whose heading names the zone, such as `2026-01-31 12:00`."""
    return utc_text(time_ms).removesuffix(" UTC")


def training_cells(due: DueTraining | None) -> tuple[str, str]:
    """Return when a pair was last trained, and when it is due and why; empty for a pair that is not trained."""
    if due is None:
        return "", ""
    trained = time_cell(due.trained_ms) if due.trained_ms else "never"
    return trained, f"{time_cell(due.due_ms)} ({due.reason})"


def print_notice(text: str) -> None:
    """Print a notice to stderr, where it disturbs no program that reads the output."""
    Console(stderr=True, highlight=False).print(text, style="yellow", soft_wrap=True, markup=False)


def command_error(message: str, *, is_mistake: bool = False) -> typer.Exit:
    """Print an error to stderr and return what ends the command: `raise command_error("…")`.

    `is_mistake`: another input of the user repairs it, so that the exit code is 2 instead of 1.
    """
    console = Console(stderr=True, highlight=False)
    console.print("[red]error:[/red]", end=" ")
    console.print(message, soft_wrap=True, markup=False)
    return typer.Exit(2 if is_mistake else 1)
