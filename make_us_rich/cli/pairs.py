"""`mkrich pairs`: choose which pairs are trained and served, and how."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from make_us_rich.cli.shared import (
    AsJson,
    OnePair,
    SomePairs,
    audit,
    database_here,
    print_json,
    settings_here,
    training_cells,
)
from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.core.terminal import console
from make_us_rich.core.times import current_ms, utc_text
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pairs import SERVING_PLANS, TrackedPair
from make_us_rich.documents import UpdatedModels
from make_us_rich.market.listing import check_traded
from make_us_rich.pipeline.training_budget import due_trainings

pairs_app = typer.Typer(help="List, add, change, park, unpark and remove pairs.", no_args_is_help=True)

Plan = Annotated[str, typer.Option(help=", ".join(SERVING_PLANS))]
Least = Annotated[int | None, typer.Option(help="replicas kept while idle; 0 starts one at the first call")]
Most = Annotated[int | None, typer.Option(help="replicas under load, at most")]


@pairs_app.command("list")
def list_pairs(as_json: AsJson = False) -> None:
    """List every pair with its serving plan and state, when it was trained, and when it is due and why (UTC)."""
    settings = settings_here()
    with database_here() as database:
        found = pairs_table.tracked(database)
        due = {(each.pair, each.interval): each for each in due_trainings(database, settings, current_ms())}
    if as_json:
        print_json(
            [
                asdict(item)
                | {
                    "active": item.active,
                    "trainings": [asdict(each) for each in due.values() if each.pair == item.pair],
                }
                for item in found
            ]
        )
        return
    table = Table("pair", "plan", "replicas", "candles", "trained", "due", "state")
    for item in found:
        for first, interval in enumerate(settings.intervals):
            about = ("", "", "") if first else (item.pair, item.plan, f"{item.min_replicas} to {item.max_replicas}")
            times = training_cells(due.get((item.pair, interval)))
            table.add_row(*about, interval, *times, "" if first else item.state)
    console.print(table)


@pairs_app.command()
def add(pairs: SomePairs, plan: Plan = "dedicated", least: Least = None, most: Most = None) -> None:
    """Add pairs that the exchange trades: the foundation forecasts them until the next run has trained them.

    None is added when the exchange does not trade one of them.
    """
    settings = settings_here()
    pairs = list(dict.fromkeys(pairs))
    for pair in pairs:
        check_traded(settings.exchange_url, pair)
    for pair in pairs:
        console.print(f"{pair}: {_put(pair, plan, least, most).state}")
    console.print(f"`mkrich train {' '.join(pairs)}` trains {'it' if len(pairs) == 1 else 'them'} now")
    console.print(_deploy(settings, *pairs))


@pairs_app.command("plan")
def change_plan(
    pair: OnePair,
    plan: Annotated[str, typer.Argument(help=", ".join(SERVING_PLANS))],
    least: Least = None,
    most: Most = None,
) -> None:
    """Change a pair's serving plan: a process of its own, a shared one, or off."""
    item = _put(pair, plan, least, most)
    console.print(f"{item.pair}: {item.plan}, {item.min_replicas} to {item.max_replicas} replicas")
    console.print(_deploy(settings_here(), pair))


@pairs_app.command()
def park(pair: OnePair, reason: Annotated[str, typer.Option(help="shown to users of the pair")]) -> None:
    """Stop training and serving a pair, for example because the exchange halted it."""
    with database_here() as database:
        item = pairs_table.park(database, pair, reason)
        audit(database, "park pair", item.pair, item.parked_reason or "")
    console.print(f"{pair}: {item.state}")
    console.print(_deploy(settings_here(), pair))


@pairs_app.command()
def unpark(pair: OnePair) -> None:
    """Train and serve a parked pair again."""
    with database_here() as database:
        item = pairs_table.unpark(database, pair)
        audit(database, "unpark pair", item.pair)
    console.print(f"{pair}: {item.state}")
    console.print(_deploy(settings_here(), pair))


@pairs_app.command()
def remove(pair: OnePair) -> None:
    """Take a pair out of the table; its models, candles and forecasts stay."""
    with database_here() as database:
        pairs_table.remove(database, pair)
        audit(database, "remove pair", pair)
    console.print(f"{pair}: removed")
    console.print(_deploy(settings_here(), pair))


def _deploy(settings: Settings, *pairs: Pair) -> str:
    """Let the service take over what was changed of pairs; return how they are served now, or when it takes effect."""
    from make_us_rich.pipeline.deployment import apply

    try:
        updated = apply(settings, wait=False)
    except MakeUsRichError as error:
        next_ms = min(interval.last_close_ms(current_ms()) + interval.ms for interval in settings.intervals)
        return (
            f"the service cannot be updated now: {error}. The change takes effect when the next training run ends: it "
            f"begins at {utc_text(next_ms)}, unless its schedule is paused"
        )
    said = {
        pair: _how_served(updated, {Series(pair, interval).name for interval in settings.intervals}) for pair in pairs
    }
    return "\n".join(text if len(pairs) == 1 else f"{pair}: {text}" for pair, text in said.items())


def _how_served(updated: UpdatedModels, names: set[str]) -> str:
    if not names.isdisjoint(updated.by_foundation):
        return "the foundation forecasts it until it is trained"
    if not names.isdisjoint(updated.applications):
        return "it is served"
    return "it is served when it is trained" if names & set(updated.without_champion) else "it is no longer served"


def _put(pair: Pair, plan: str, least: int | None, most: int | None) -> TrackedPair:
    with database_here() as database:
        item = pairs_table.put(database, pair, plan=plan, min_replicas=least, max_replicas=most)
        audit(database, "put pair", item.pair, item.plan)
    return item
