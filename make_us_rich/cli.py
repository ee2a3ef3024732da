"""`mkrich`: the whole project from a terminal."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from make_us_rich.errors import MakeUsRichError

app = typer.Typer(
    help="Cryptocurrency forecasts with honest uncertainty, trained and served automatically.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)

Live = Annotated[bool, typer.Option("--live", help="prices from Binance itself; no key needed")]
Data = Annotated[
    Path | None, typer.Option(help="folder of recorded klines (BTCUSDT.parquet …) to replay as if now")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def up(live: Live = False, data: Data = None) -> None:
    """Start the embedded stack and return when every component answers."""
    from make_us_rich.demo import show_addresses, start_stack

    show_addresses(start_stack(live=live, data=data))


@app.command()
def down() -> None:
    """Stop the embedded stack; its data stays."""
    from make_us_rich.local_stack import run
    from make_us_rich.local_stack.plan import current_plan

    plan = current_plan()
    if plan is None:
        console.print("no stack was started here")
        return
    run.down(plan)
    console.print(f"the stack is down; its data stays in {plan.state}")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show each component of the stack: state, age, memory."""
    from make_us_rich.local_stack import run
    from make_us_rich.local_stack.plan import current_plan

    plan = current_plan()
    states = run.status(plan) if plan else []
    memory = run.memory_bytes(plan) if plan and states else {}
    if as_json:
        rows = [
            {
                "name": item.name,
                "state": item.state,
                "since_s": item.since_s,
                "memory_bytes": memory.get(item.name),
            }
            for item in states
        ]
        typer.echo(json.dumps(rows))
    elif not states:
        console.print("the stack is down: `mkrich up` starts it")
    else:
        table = Table("component", "state", "since", "memory (PSS)")
        for item in states:
            table.add_row(item.name, item.state, f"{item.since_s:.0f} s", _mib(memory.get(item.name, 0)))
        table.add_section()
        table.add_row("together", "", "", _mib(sum(memory.values())))
        console.print(table)
    if not states or any(item.state != "RUNNING" for item in states):
        raise typer.Exit(1)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="a component, as `mkrich status` names it")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as lines arrive")] = False,
    lines: Annotated[int, typer.Option(help="how many of the last lines")] = 50,
) -> None:
    """Print the log of one component."""
    from make_us_rich.local_stack import run
    from make_us_rich.local_stack.plan import current_plan

    plan = current_plan()
    path = run.log_path(plan, name) if plan else None
    if plan is None or path is None or not path.exists():
        known = sorted(file.stem for file in plan.logs.glob("*.log")) if plan else []
        raise _fail(f"no log of {name!r}: choose from {', '.join(known) or 'none; start the stack first'}")
    subprocess.run(["tail", f"-n{lines}", *(["-F"] if follow else []), str(path)], check=False)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="end after the forecasts")] = False,
    live: Live = False,
    data: Data = None,
) -> None:
    """Start the stack, train and serve three pairs, show their forecasts."""
    from make_us_rich.demo import run_demo

    raise typer.Exit(run_demo(once=once, live=live, data=data))


@app.command()
def migrate() -> None:
    """Bring the database of MUR_DATABASE_URL to this version's tables."""
    from make_us_rich.migrations import migrate as run_migrations
    from make_us_rich.settings import get_settings

    run_migrations(get_settings().database_url.get_secret_value())


@app.command()
def prepare(
    admin_password: Annotated[str, typer.Option(envvar="MUR_ADMIN_PASSWORD", help="of the first admin")],
) -> None:
    """Make the tables, buckets, admin, service token and pairs of a new installation; repeat at will."""
    from make_us_rich.prepare import prepare_accounts, prepare_buckets, prepare_pairs
    from make_us_rich.settings import get_settings

    settings = get_settings()
    database_url, token = settings.database_url.get_secret_value(), settings.service_token.get_secret_value()
    prepare_accounts(database_url, admin_password, token)
    prepare_pairs(database_url, settings.pairs, settings.pooled_pairs)
    keys = settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
    prepare_buckets(settings.s3_endpoint_url, *keys, settings.candles_bucket)
    console.print("tables, buckets, admin, service token and pairs are there")


@app.command("init-env")
def init_env(
    path: Annotated[Path, typer.Argument(help="the file to write")] = Path(".env"),
) -> None:
    """Write .env for docker compose from .env.example, with a strong secret for each empty one."""
    from make_us_rich.env_file import write_env

    write_env(Path(".env.example"), path)
    console.print(f"{path} is written; only you can read it")


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _fail(message: str) -> typer.Exit:
    Console(stderr=True, highlight=False).print(f"[red]error:[/red] {message}", soft_wrap=True)
    return typer.Exit(1)


def main() -> None:
    """The entry point: our own errors end with one clear line instead of a traceback."""
    try:
        app()
    except MakeUsRichError as error:
        raise SystemExit(_fail(str(error)).exit_code) from None


if __name__ == "__main__":
    main()
