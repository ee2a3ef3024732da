"""The command line of 2022 on today's stack: `init`, `run`, `start` and `stop`, each with a component."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from make_us_rich.cli.shared import fail
from make_us_rich.cli.stack import Data, Live, down, up
from make_us_rich.core.terminal import console

if TYPE_CHECKING:
    from make_us_rich.embedded.stack_config import StackConfig
    from make_us_rich.operations.airflow import Airflow

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
    case_sensitive=False, help="a component; `agent` is the hourly schedule; none: the whole stack"
)


def register(app: typer.Typer) -> None:
    panel = "The words of 2022"
    app.command("init", rich_help_panel=panel)(init)
    app.command("run", rich_help_panel=panel)(run)
    app.command("start", rich_help_panel=panel)(start)
    app.command("stop", rich_help_panel=panel)(stop)


def init(service: Annotated[Service, _Named], live: Live = False, data: Data = None) -> None:
    """Make the folder and the secrets of the embedded stack, which all components share."""
    from make_us_rich.embedded.demo import chosen_stack_config
    from make_us_rich.embedded.lifecycle import open_stack

    config = open_stack(chosen_stack_config(live=live, data=data)).config
    console.print(f"{config.state} is prepared for every component; next: `mkrich run {service}`")


def run(service: Annotated[Service, _Named], live: Live = False, data: Data = None) -> None:
    """Start one component of the embedded stack, with the servers that it needs."""
    from make_us_rich.embedded.demo import start_stack
    from make_us_rich.embedded.environment import ADMIN

    os.environ.setdefault("MUR_DAGS_PAUSED", "true")  # until `start agent`
    stack = start_stack(live=live, data=data, service=service.value)
    name = {Service.SERVING: "api", Service.INTERFACE: "dash", Service.TRAINING: "airflow"}[service]
    address = stack.config.url(name)
    login = "" if service is Service.SERVING else f", log-in {ADMIN} / {stack.secrets.admin_password}"
    console.print(f"{service} is at {address}{login}")
    if service is Service.TRAINING:
        console.print("`mkrich start agent` trains every hour from now on")


def start(service: Annotated[Startable | None, _Chosen] = None, live: Live = False, data: Data = None) -> None:
    """Start a component, the hourly schedule, or the whole embedded stack."""
    if service is None:
        up(live, data)
    elif service is Startable.AGENT:
        console.print(f"scheduled: {_for_each_dag(lambda airflow, dag_id: airflow.unpause(dag_id))}")
    else:
        run(Service(service.value), live, data)


def stop(service: Annotated[Startable | None, _Chosen] = None) -> None:
    """Stop a component, the hourly schedule, or the whole embedded stack. Data stays."""
    from make_us_rich.embedded import lifecycle

    if service is None:
        down()
    elif service is Startable.AGENT:
        console.print(f"paused: {_for_each_dag(lambda airflow, dag_id: airflow.pause(dag_id))}")
    else:
        lifecycle.stop_service(_running_stack_config(), Service(service.value).value)
        console.print(f"{service} is stopped; `mkrich stop` stops the servers that it shares with others")


def _for_each_dag(change: Callable[[Airflow, str], None]) -> str:
    """Make a change to every DAG, once Airflow has read those that train; returns their names."""
    from make_us_rich.embedded.environment import ADMIN
    from make_us_rich.embedded.lifecycle import open_stack
    from make_us_rich.operations.airflow import Airflow

    config = _running_stack_config()
    with Airflow(config.url("airflow"), ADMIN, open_stack(config).secrets.admin_password) as airflow:
        deadline = time.monotonic() + _DAG_TIMEOUT_S
        while not all(airflow.has_dag(dag_id) for dag_id in _TRAINING_DAGS):
            if time.monotonic() > deadline:
                raise fail(f"Airflow does not know {' and '.join(_TRAINING_DAGS)}: `mkrich logs airflow-dag-processor`")
            time.sleep(0.5)
        dag_ids = airflow.dag_ids()
        for dag_id in dag_ids:
            change(airflow, dag_id)
    return ", ".join(dag_ids)


def _running_stack_config() -> StackConfig:
    from make_us_rich.embedded import lifecycle
    from make_us_rich.embedded.stack_config import saved_stack_config

    config = saved_stack_config()
    if config is None or not lifecycle.status(config):
        raise fail("no stack runs here: `mkrich run training` starts one")
    return config
