"""The commands of the first version (2022) on today's stack: `init`, `run`, `start`, `stop`, each with a service."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from make_us_rich.cli.shared import command_error
from make_us_rich.cli.stack import Data, Live, down, up
from make_us_rich.core.terminal import console

if TYPE_CHECKING:
    from make_us_rich.embedded.stack_config import StackConfig

_TRAINING_DAGS = ("train_pairs", "train_foundation")
_DAG_TIMEOUT_S = 120.0


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


def register(app: typer.Typer) -> None:
    panel = "Commands of the first version (2022)"
    app.command("init", rich_help_panel=panel)(init)
    app.command("run", rich_help_panel=panel)(run)
    app.command("start", rich_help_panel=panel)(start)
    app.command("stop", rich_help_panel=panel)(stop)


def init(service: Annotated[Service, _Named], live: Live = False, data: Data = None) -> None:
    """Create the folder and the secrets of the embedded stack, which all services share."""
    from make_us_rich.embedded.demo import chosen_stack_config
    from make_us_rich.embedded.lifecycle import open_stack

    config = open_stack(chosen_stack_config(live=live, data=data)).config
    console.print(f"{config.state} is ready for every service; next: `mkrich run {service}`")


def run(service: Annotated[Service, _Named], live: Live = False, data: Data = None) -> None:
    """Start one service of the embedded stack, with the servers that it needs."""
    from make_us_rich.embedded.demo import start_stack
    from make_us_rich.embedded.environment import ADMIN

    stack = start_stack(live=live, data=data, service=service.value, dags_paused=True)  # until `start agent`
    name = {Service.SERVING: "api", Service.INTERFACE: "dash", Service.TRAINING: "airflow"}[service]
    address = stack.config.url(name)
    login = "" if service is Service.SERVING else f", log-in {ADMIN} / {stack.secrets.admin_password}"
    console.print(f"{service} is at {address}{login}")
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
    from make_us_rich.operations.airflow import Airflow

    config = _running_stack_config()
    with Airflow(config.url("airflow"), ADMIN, open_stack(config).secrets.admin_password) as airflow:
        deadline = time.monotonic() + _DAG_TIMEOUT_S
        while not all(airflow.has_dag(dag_id) for dag_id in _TRAINING_DAGS):
            if time.monotonic() > deadline:
                raise command_error(
                    f"Airflow does not know {' and '.join(_TRAINING_DAGS)}: `mkrich logs airflow-dag-processor`"
                )
            time.sleep(0.5)
        return ", ".join(airflow.pause_all(paused))


def _running_stack_config() -> StackConfig:
    from make_us_rich.embedded import lifecycle
    from make_us_rich.embedded.stack_config import saved_stack_config

    config = saved_stack_config()
    if config is None or not lifecycle.status(config):
        raise command_error("no stack runs here: `mkrich run training` starts one")
    return config
