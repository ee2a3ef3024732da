"""Which pairs are trained and served."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from make_us_rich.cli.shared import AsJson, OnePair, audit, database_here, print_json
from make_us_rich.core.terminal import console
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pairs import SERVING_PLANS, TrackedPair

pairs_app = typer.Typer(help="List, add, change, park and unpark pairs.", no_args_is_help=True)

Plan = Annotated[str, typer.Option(help=", ".join(SERVING_PLANS))]
Least = Annotated[int | None, typer.Option(help="replicas kept without a call; 0 starts one with the first")]
Most = Annotated[int | None, typer.Option(help="replicas under load")]


def register(app: typer.Typer) -> None:
    app.add_typer(pairs_app, name="pairs")


@pairs_app.command("list")
def list_pairs(as_json: AsJson = False) -> None:
    """Show every pair that is known, with its plan."""
    with database_here() as database:
        listed = pairs_table.tracked(database)
    if as_json:
        print_json([asdict(item) | {"active": item.active} for item in listed])
        return
    table = Table("pair", "plan", "replicas", "state")
    for item in listed:
        table.add_row(item.pair, item.plan, f"{item.min_replicas} to {item.max_replicas}", _state(item))
    console.print(table)


@pairs_app.command()
def add(pair: OnePair, plan: Plan = "dedicated", least: Least = None, most: Most = None) -> None:
    """Train and serve another pair from the next run on."""
    with database_here() as database:
        item = pairs_table.put(database, pair, plan=plan, min_replicas=least, max_replicas=most)
        audit(database, "put pair", item.pair, item.plan)
    console.print(f"{item.pair}: {_state(item)}; `mkrich train {item.pair}` does not wait for the hour")


@pairs_app.command("plan")
def change_plan(
    pair: OnePair,
    plan: Annotated[str, typer.Argument(help=", ".join(SERVING_PLANS))],
    least: Least = None,
    most: Most = None,
) -> None:
    """Give a pair a process of its own, a shared one, or none."""
    with database_here() as database:
        item = pairs_table.put(database, pair, plan=plan, min_replicas=least, max_replicas=most)
        audit(database, "put pair", item.pair, item.plan)
    console.print(f"{item.pair}: {item.plan}, {item.min_replicas} to {item.max_replicas} replicas")


@pairs_app.command()
def park(pair: OnePair, reason: Annotated[str, typer.Option(help="shown wherever the pair is")]) -> None:
    """Let a pair rest, as when the exchange halts it."""
    with database_here() as database:
        item = pairs_table.park(database, pair, reason)
        audit(database, "park pair", item.pair, reason)
    console.print(f"{pair}: {_state(item)}")


@pairs_app.command()
def unpark(pair: OnePair) -> None:
    """Train and serve a parked pair again."""
    with database_here() as database:
        item = pairs_table.unpark(database, pair)
        audit(database, "unpark pair", item.pair)
    console.print(f"{pair}: {_state(item)}")


def _state(item: TrackedPair) -> str:
    if item.parked_at is not None:
        return f"parked since {item.parked_at:%Y-%m-%d %H:%M}: {item.parked_reason}"
    return "active" if item.active else "off"
