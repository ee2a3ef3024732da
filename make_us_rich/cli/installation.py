"""Commands for a new or upgraded installation: doctor, migrate, prepare, create-admin, init-env."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from make_us_rich.cli.shared import AsJson, database_here, print_json, settings_here, stack_here
from make_us_rich.core.terminal import console
from make_us_rich.database.pool import Database

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


def doctor(as_json: AsJson = False) -> None:
    """Check every component; say how to fix what does not work."""
    from make_us_rich.operations.health import check_components

    config = stack_here()
    results = check_components(settings_here())
    if config is not None:
        from make_us_rich.embedded.programs import check_programs

        results.append(check_programs(config))
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        table = Table("component", "state", "finding", "what to do")
        for item in results:
            colour = _COLOURS[item.state]
            table.add_row(item.name, f"[{colour}]{item.state}[/{colour}]", item.detail, item.way_out)
        console.print(table)
    if any(result.state == "failed" for result in results):
        raise typer.Exit(1)


def deploy() -> None:
    """Let Ray Serve run every active pair by its present model, and wait until they answer.

    It restores what a restarted Ray head has lost, and changes nothing where nothing is missing.
    """
    from make_us_rich.pipeline.deployment import apply

    updated = apply(settings_here())
    console.print(f"{len(updated.applications)} series are served")
    if updated.without_champion:
        console.print(f"without a model yet: {', '.join(updated.without_champion)}")


def migrate() -> None:
    """Apply the missing migrations to the database of MUR_DATABASE_URL."""
    from make_us_rich.database.migrations import migrate as run_migrations

    run_migrations(settings_here().needed("database_url"))
    console.print("the tables are those of this version")


def prepare(
    admin_password: Annotated[str, typer.Option(envvar="MUR_ADMIN_PASSWORD", help="password of the first admin")],
) -> None:
    """Create the tables, buckets, first admin, tokens and pairs. Safe to repeat."""
    from make_us_rich.core.settings import get_settings
    from make_us_rich.database import pairs as pairs_table
    from make_us_rich.operations.prepare import prepare_accounts, prepare_buckets

    settings = get_settings()
    url, token = settings.needed("database_url"), settings.service_token.get_secret_value()
    prepare_accounts(url, admin_password, token, settings.dashboard_token.get_secret_value())
    with Database(url) as database:
        pairs_table.seed(database, settings.pairs, settings.pooled_pairs)
    keys = settings.needed("s3_access_key"), settings.needed("s3_secret_key")
    buckets = (settings.candles_bucket, settings.mlflow_bucket)
    prepare_buckets(settings.s3_endpoint_url, *keys, buckets, settings.s3_region)
    console.print("tables, buckets, admin, tokens and pairs exist")


def create_admin(
    name: Annotated[str, typer.Argument(help="name of the user")],
    password: Annotated[
        str,
        typer.Option(
            prompt=True,
            hide_input=True,
            confirmation_prompt=True,
            envvar="MUR_ADMIN_PASSWORD",
            help="by default the command asks for it",
        ),
    ],
    reset: Annotated[
        bool, typer.Option("--reset", help="change an existing user: set the password, unlock, grant the role")
    ] = False,
) -> None:
    """Add a user with the admin role."""
    from make_us_rich.accounts import ADMIN, COMMAND_LINE, Accounts

    with Accounts(database_here()) as accounts:
        if reset:
            accounts.users.reset(name, password, role=ADMIN)
        else:
            accounts.users.create(name, password, role=ADMIN, by=COMMAND_LINE)
    console.print(f"{name} is an admin")


def init_env(path: Annotated[Path, typer.Argument(help="the file to write")] = Path(".env")) -> None:
    """Write .env for docker compose from .env.example, with a new secret for each empty variable."""
    from make_us_rich.operations.prepare import write_env

    write_env(Path(".env.example"), path)
    console.print(f"{path} is written, readable by you alone")
