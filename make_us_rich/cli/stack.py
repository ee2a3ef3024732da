"""Commands for the embedded stack, and those of the first version (2022) for one service of it."""

from __future__ import annotations

import shlex
import subprocess
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psycopg2
import typer
from rich.table import Table

from make_us_rich.cli.shared import AsJson, command_error, database_here, print_json, settings_here, training_cells
from make_us_rich.core.terminal import console
from make_us_rich.core.times import current_ms

if TYPE_CHECKING:
    from make_us_rich.embedded.stack_config import StackConfig

Live = Annotated[bool, typer.Option("--live", help="use live prices from Binance; needs no key")]
Data = Annotated[
    Path | None, typer.Option(help="folder of recorded klines (BTCUSDT.parquet …), replayed as if they closed now")
]

_DAG_TIMEOUT_S = 120.0


def up(
    live: Live = False,
    data: Data = None,
    stores: Annotated[bool, typer.Option("--stores", help="start only Postgres and S3")] = False,
) -> None:
    """Start the embedded stack and return when every component is ready."""
    from make_us_rich.embedded.demo import show_addresses, start_stack

    if stores:
        start_stack(live=live, data=data, service="stores")
        console.print("`mkrich up` starts the rest, `mkrich down` stops them")
    else:
        show_addresses(start_stack(live=live, data=data))


def down() -> None:
    """Stop the embedded stack. Its data stays."""
    from make_us_rich.embedded import lifecycle

    config = _saved_config()
    if config is None:
        console.print("no stack was started here")
        return
    lifecycle.down(config)
    console.print(f"the stack is down; its data stays in {config.state}")


def status(as_json: AsJson = False) -> None:
    """Show the state, age and memory of each component of the stack, and when each pair is due for training.

    `mkrich pairs list --json` has the latter as JSON.
    """
    from make_us_rich.embedded import lifecycle

    config = _saved_config()
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
        left = len(lifecycle.processes(config)) if config else 0
        if left:
            console.print(
                f"supervisord does not answer, but {left} processes of the stack run: `mkrich down`, then `mkrich up`"
            )
        else:
            console.print("the stack is down: `mkrich up` starts it")
    else:
        table = Table("component", "state", "since", "memory (PSS)")
        for item in states:
            table.add_row(item.name, item.state, f"{item.since_s:.0f} s", _mib(memory.get(item.name, 0)))
        table.add_section()
        table.add_row("total", "", "", _mib(sum(memory.values())))
        console.print(table)
        for item in states:
            if item.is_down:
                console.print(f"{item.name} does not stay up and is tried again: `mkrich logs {item.name}` says why")
        _print_due_trainings()
    if not states or any(item.state != "RUNNING" for item in states):
        raise typer.Exit(1)


def _print_due_trainings() -> None:
    from make_us_rich.pipeline.training_budget import due_trainings

    try:
        with database_here() as database:
            found = due_trainings(database, settings_here(), current_ms())
    except psycopg2.Error as error:
        console.print(f"the due times of the pairs cannot be read: {str(error).strip()}", markup=False)
        return
    table = Table("pair", "candles", "trained", "due", title="trainings, UTC", title_justify="left")
    for due in found:
        table.add_row(due.pair, due.interval, *training_cells(due))
    console.print(table)


def logs(
    name: Annotated[str, typer.Argument(help="name of a component, from `mkrich status`")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="print new lines as they arrive")] = False,
    lines: Annotated[int, typer.Option(help="number of lines from the end")] = 50,
) -> None:
    """Print the log of one component."""
    from make_us_rich.embedded import lifecycle

    config = _saved_config()
    path = lifecycle.log_path(config, name) if config else None
    if config is None or path is None or not path.exists():
        known = sorted(file.stem for file in config.logs.glob("*.log")) if config else []
        raise command_error(
            f"no log of {name!r}: choose from {', '.join(known) or 'none; start the stack first'}", is_mistake=True
        )
    subprocess.run(["tail", f"-n{lines}", *(["-F"] if follow else []), str(path)], check=False)


def env() -> None:
    """Print the variables with which airflow, mlflow, ray, aws and rclone speak to the running stack.

    They hold its secrets. Use: eval "$(mkrich env)"
    """
    from make_us_rich.embedded.environment import client_environment
    from make_us_rich.embedded.lifecycle import open_stack

    stack = open_stack(_running_stack_config())
    for name, value in client_environment(stack.config, stack.secrets).items():
        print(f"export {name}={shlex.quote(value)}")


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


def _saved_config() -> StackConfig | None:
    """Return the configuration of the stack that was started here; None when none was."""
    from make_us_rich.embedded.stack_config import saved_stack_config

    return saved_stack_config()


class Service(StrEnum):
    SERVING = "serving"
    INTERFACE = "interface"
    TRAINING = "training"


class Startable(StrEnum):
    SERVING = "serving"
    INTERFACE = "interface"
    TRAINING = "training"
    AGENT = "agent"


_Named = typer.Argument(case_sensitive=False, help="the HTTP API, the dashboard, or Airflow with its jobs")
_Chosen = typer.Argument(
    case_sensitive=False, help="a service, or `agent` for the hourly schedule; by default the whole stack"
)


def init(service: Annotated[Service, _Named], live: Live = False, data: Data = None) -> None:
    """Create the folder and the secrets of the embedded stack, which all services share."""
    from make_us_rich.embedded.demo import chosen_stack_config
    from make_us_rich.embedded.lifecycle import open_stack

    config = open_stack(chosen_stack_config(live=live, data=data)).config
    console.print(f"{config.state} is ready for every service; next: `mkrich run {service}`")


def run(service: Annotated[Service, _Named], live: Live = False, data: Data = None) -> None:
    """Start one service of the embedded stack, with the servers that it needs."""
    from make_us_rich.embedded.demo import dashboard_login, start_stack
    from make_us_rich.embedded.environment import ADMIN

    stack = start_stack(live=live, data=data, service=service.value, dags_paused=True)  # until `start agent`
    name = {Service.SERVING: "api", Service.INTERFACE: "dash", Service.TRAINING: "airflow"}[service]
    address = stack.config.url(name)
    login = (
        f"{ADMIN} / {stack.secrets.admin_password}" if service is Service.TRAINING else dashboard_login(stack, ADMIN)
    )
    console.print(f"{service} is at {address}{'' if service is Service.SERVING else f', log-in {login}'}")
    if service is Service.TRAINING:
        console.print("`mkrich start agent` starts the hourly training")


def start(service: Annotated[Startable | None, _Chosen] = None, live: Live = False, data: Data = None) -> None:
    """Start a service, the hourly schedule, or the whole embedded stack."""
    if service is None:
        up(live, data)
    elif service is Startable.AGENT:
        console.print(f"scheduled: {_pause_dags(False)}")
    else:
        run(Service(service.value), live, data)


def stop(service: Annotated[Startable | None, _Chosen] = None) -> None:
    """Stop a service, the hourly schedule, or the whole embedded stack. Data stays."""
    from make_us_rich.embedded import lifecycle

    if service is None:
        down()
    elif service is Startable.AGENT:
        console.print(f"paused: {_pause_dags(True)}")
    else:
        lifecycle.stop_service(_running_stack_config(), Service(service.value).value)
        console.print(f"{service} is stopped; `mkrich stop` stops the servers that it shares with others")


def _pause_dags(paused: bool) -> str:
    """Pause or unpause every DAG, once Airflow has read the training DAGs; return their names."""
    from make_us_rich.embedded.environment import ADMIN
    from make_us_rich.embedded.lifecycle import open_stack
    from make_us_rich.pipeline.airflow import Airflow, dag_of

    config, intervals = _running_stack_config(), settings_here().intervals
    needed = {dag_of(work, interval) for work in ("train_pairs", "train_foundation") for interval in intervals}
    with Airflow(config.url("airflow"), ADMIN, open_stack(config).secrets.admin_password) as airflow:
        deadline = time.monotonic() + _DAG_TIMEOUT_S
        while missing := needed - set(airflow.dag_ids()):
            if time.monotonic() > deadline:
                raise command_error(f"Airflow does not know {', '.join(missing)}: `mkrich logs airflow-dag-processor`")
            time.sleep(0.5)
        return ", ".join(airflow.pause_all(paused))


def _running_stack_config() -> StackConfig:
    from make_us_rich.embedded import lifecycle

    config = _saved_config()
    if config is None or not lifecycle.status(config):
        raise command_error("no stack runs here: `mkrich up` or `mkrich run training` starts one")
    return config
