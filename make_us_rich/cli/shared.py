"""What the commands share: options, output, and whose settings they speak for."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.database.pool import Database

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Pairs = Annotated[list[Pair] | None, typer.Argument(parser=Pair.parse, help="pairs such as btc_usdt; none: every pair")]
OnePair = Annotated[Pair, typer.Argument(parser=Pair.parse, help="a pair such as btc_usdt")]


def settings_here() -> Settings:
    """The environment's settings; where it has none, those of the embedded stack that was started here."""
    if "MUR_DATABASE_URL" not in os.environ:
        # roles that are installed without the stack's extra know no embedded stack
        with suppress(ImportError):
            from make_us_rich.embedded.lifecycle import open_stack
            from make_us_rich.embedded.stack_config import saved_stack_config

            config = saved_stack_config()
            if config is not None:
                theirs = open_stack(config).environment
                os.environ.update({key: value for key, value in theirs.items() if key.startswith("MUR_")})
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


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, default=str))


def moment(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def fail(message: str) -> typer.Exit:
    """To be raised: `raise fail("…")`."""
    Console(stderr=True, highlight=False).print("[red]error:[/red]", end=" ")
    Console(stderr=True, highlight=False).print(message, soft_wrap=True, markup=False)
    return typer.Exit(1)
