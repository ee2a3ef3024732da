"""Commands for the embedded stack: up, down, status, logs, demo."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from make_us_rich.cli.shared import AsJson, command_error, print_json
from make_us_rich.core.terminal import console

Live = Annotated[bool, typer.Option("--live", help="use live prices from Binance; needs no key")]
Data = Annotated[
    Path | None, typer.Option(help="folder of recorded klines (BTCUSDT.parquet …), replayed as if they closed now")
]


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(logs)
    app.command()(demo)


def up(live: Live = False, data: Data = None) -> None:
    """Start the embedded stack and return when every component is ready."""
    from make_us_rich.embedded.demo import show_addresses, start_stack

    show_addresses(start_stack(live=live, data=data))


def down() -> None:
    """Stop the embedded stack. Its data stays."""
    from make_us_rich.embedded import lifecycle
    from make_us_rich.embedded.stack_config import saved_stack_config

    config = saved_stack_config()
    if config is None:
        console.print("no stack was started here")
        return
    lifecycle.down(config)
    console.print(f"the stack is down; its data stays in {config.state}")


def status(as_json: AsJson = False) -> None:
    """Show the state, age and memory of each component of the stack."""
    from make_us_rich.embedded import lifecycle
    from make_us_rich.embedded.stack_config import saved_stack_config

    config = saved_stack_config()
    states = lifecycle.status(config) if config else []
    memory = lifecycle.memory_bytes(config) if config and states else {}
    if as_json:
        print_json(
            [
                {"name": item.name, "state": item.state, "since_s": item.since_s, "memory_bytes": memory.get(item.name)}
                for item in states
            ]
        )
    elif not states:
        console.print("the stack is down: `mkrich up` starts it")
    else:
        table = Table("component", "state", "since", "memory (PSS)")
        for item in states:
            table.add_row(item.name, item.state, f"{item.since_s:.0f} s", _mib(memory.get(item.name, 0)))
        table.add_section()
        table.add_row("total", "", "", _mib(sum(memory.values())))
        console.print(table)
    if not states or any(item.state != "RUNNING" for item in states):
        raise typer.Exit(1)


def logs(
    name: Annotated[str, typer.Argument(help="name of a component, from `mkrich status`")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="print new lines as they arrive")] = False,
    lines: Annotated[int, typer.Option(help="number of lines from the end")] = 50,
) -> None:
    """Print the log of one component."""
    from make_us_rich.embedded import lifecycle
    from make_us_rich.embedded.stack_config import saved_stack_config

    config = saved_stack_config()
    path = lifecycle.log_path(config, name) if config else None
    if config is None or path is None or not path.exists():
        known = sorted(file.stem for file in config.logs.glob("*.log")) if config else []
        raise command_error(f"no log of {name!r}: choose from {', '.join(known) or 'none; start the stack first'}")
    subprocess.run(["tail", f"-n{lines}", *(["-F"] if follow else []), str(path)], check=False)


def demo(
    once: Annotated[bool, typer.Option("--once", help="stop after the forecasts are shown")] = False,
    live: Live = False,
    data: Data = None,
) -> None:
    """Start the stack, train and serve three pairs, and show their forecasts."""
    from make_us_rich.embedded.demo import run_demo

    raise typer.Exit(run_demo(once=once, live=live, data=data))


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
