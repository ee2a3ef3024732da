"""The main job, watched: start the stack, run the hourly DAG, show what it now forecasts."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from make_us_rich.core.errors import ComponentDied, StackError
from make_us_rich.core.settings import BINANCE_URL
from make_us_rich.core.terminal import console
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.environment import ADMIN, DEMO_USER
from make_us_rich.embedded.lifecycle import Stack
from make_us_rich.embedded.stack_config import Service, StackConfig, new_stack_config
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.operations.airflow import Airflow
from make_us_rich.operations.run_progress import RunProgress

DEMO_PAIRS = ("btc_usdt", "eth_usdt", "chz_usdt")
DAG_ID = "train_pairs"
_DAG_TIMEOUT_S = 120.0
_RUN_TIMEOUT_S = 1800.0
_SCHEDULED_RUN_S = 10.0  # unpausing a DAG for the first time starts the run of the last hour by itself
_SERVED_TIMEOUT_S = 60.0


def chosen_stack_config(*, live: bool, data: Path | None) -> StackConfig:
    """Raises StackError when two markets are chosen."""
    if live and data:
        raise StackError("--live and --data are two markets: choose one")
    return new_stack_config("binance" if live else "recorded" if data else "simulated", data)


def start_stack(*, live: bool, data: Path | None, part: Service | None = None) -> Stack:
    """Start the stack of the chosen market, or one part of it, and show its progress.

    Raises MarketError before anything is started when the live exchange does not serve this machine.
    """
    config, what = chosen_stack_config(live=live, data=data), part or "the stack"
    if live:
        ExchangeClient(os.environ.get("MUR_EXCHANGE_URL", BINANCE_URL)).server_time_ms()
    console.print(f"starting {what} with the [bold]{config.market}[/bold] market; the first start takes longest")
    began = time.monotonic()
    stack = lifecycle.up(config, lambda name, seconds: _say(seconds, f"{name} is ready"), part)
    console.print(f"{what} is ready after {time.monotonic() - began:.0f} s")
    return stack


def run_demo(*, once: bool, live: bool, data: Path | None) -> int:
    """Returns the exit code: 0 when every pair of the demo was served."""
    os.environ.setdefault("MUR_PAIRS", ",".join(DEMO_PAIRS))
    pairs = tuple(os.environ["MUR_PAIRS"].split(","))
    # first the run that is watched, then all DAGs
    os.environ.setdefault("MUR_DAGS_PAUSED", "true")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being told to end is as good as Ctrl-C
    stack = start_stack(live=live, data=data)
    try:
        state = _follow_run(stack)
        served = _show_forecasts(stack, pairs)
        show_addresses(stack)
        if once:
            return 0 if served == len(pairs) and state == "success" else 1
        _unpause_all(stack)
        console.print("\nthe stack stays up and trains every hour; Ctrl-C ends it")
        _watch(stack)
    except KeyboardInterrupt:
        console.print("\nstopping")
    finally:
        lifecycle.down(stack.config)
        console.print(f"the stack is down; its data stays in {stack.config.state}")
    return 0


def show_addresses(stack: Stack) -> None:
    config, secrets = stack.config, stack.secrets
    table = Table("where", "address", "login", title="open these", title_justify="left", title_style="bold")
    login = f"{ADMIN} / {secrets.admin_password}"
    mlflow = f"{stack.environment['MUR_MLFLOW_USER']} / {stack.environment['MUR_MLFLOW_PASSWORD']}"
    table.add_row("dashboard", config.url("dash"), f"{DEMO_USER} / {secrets.demo_password}, or {login}")
    table.add_row("HTTP API", f"{config.url('api')}/docs", "a token from the dashboard's API page")
    table.add_row("Airflow", config.url("airflow"), login)
    table.add_row("MLflow", config.url("mlflow"), mlflow)
    table.add_row("Ray", config.url("ray_dashboard"), f"token {secrets.ray_token}")
    console.print(table)


def _follow_run(stack: Stack) -> str:
    airflow = Airflow(stack.config.url("airflow"), ADMIN, stack.secrets.admin_password)
    _wait(lambda: airflow.has_dag(DAG_ID), _DAG_TIMEOUT_S, "Airflow does not know the train_pairs DAG")
    airflow.unpause(DAG_ID)
    run_id = _run_to_follow(airflow)
    began = time.monotonic()
    console.print(f"\nfollowing run {run_id}")
    progress = RunProgress(airflow, DAG_ID, run_id, stack.config.url("ray_dashboard"), stack.secrets.ray_token)
    state = progress.follow(_say, _RUN_TIMEOUT_S)
    console.print(f"run {state} after {time.monotonic() - began:.0f} s")
    return state


def _unpause_all(stack: Stack) -> None:
    with Airflow(stack.config.url("airflow"), ADMIN, stack.secrets.admin_password) as airflow:
        for dag_id in airflow.dag_ids():
            airflow.unpause(dag_id)


def _run_to_follow(airflow: Airflow) -> str:
    deadline = time.monotonic() + _SCHEDULED_RUN_S
    while time.monotonic() < deadline:
        active = airflow.active_runs(DAG_ID)
        if active:
            return active[0]
        time.sleep(0.5)
    return airflow.trigger(DAG_ID)


def _show_forecasts(stack: Stack, pairs: tuple[str, ...]) -> int:
    """Print a table of the served forecasts; returns how many pairs were served."""
    table = Table(
        "pair",
        "last close",
        "median of the next",
        "80 % band",
        "model",
        "age",
        "skill vs naive",
        title=f"\nforecasts of the next candle, in the quote currency ({stack.config.market} market)",
        title_justify="left",
        title_style="bold",
    )
    served = 0
    headers = {"Authorization": f"Bearer {stack.secrets.service_token}"}
    with httpx.Client(base_url=stack.config.url("api"), headers=headers, timeout=30) as api:
        for pair in pairs:
            forecast, reason = _forecast(api, pair)
            if forecast is None:
                table.add_row(pair, f"[red]not served: {reason}[/red]")
                continue
            served += 1
            table.add_row(*_row(pair, forecast))
    console.print(table)
    return served


def _forecast(api: httpx.Client, pair: str) -> tuple[dict[str, Any] | None, str]:
    deadline = time.monotonic() + _SERVED_TIMEOUT_S
    while True:
        try:
            answer = api.get(f"/v1/forecasts/{pair}")
            if answer.is_success:
                return answer.json(), ""
            reason = answer.text[:200]
            if answer.is_client_error:
                return None, reason
        except httpx.HTTPError as error:
            reason = repr(error)
        if time.monotonic() > deadline:
            return None, reason
        time.sleep(1)


def _row(pair: str, forecast: dict[str, Any]) -> list[str]:
    quantiles, model = forecast["quantiles"], forecast["model"]
    skill = model["skill_vs_naive"]
    return [
        pair,
        f"{forecast['last_close']:.6g}",
        f"{quantiles['q50']:.6g}",
        f"{quantiles['q10']:.6g} to {quantiles['q90']:.6g}",
        f"v{model['version']} {model['architecture']}",
        f"{model['age_hours']:.1f} h",
        "unknown" if skill is None else f"{skill:+.1%}",
    ]


def _watch(stack: Stack) -> None:
    """Until Ctrl-C; a component that dies is named at once, with the tail of its log."""
    pids = {state.name: state.pid for state in lifecycle.status(stack.config)}
    while True:
        time.sleep(2)
        states = lifecycle.status(stack.config)
        if not states:
            raise ComponentDied("supervisord itself ended")
        for state in states:
            if state.is_down or (state.pid and state.pid != pids[state.name]):
                console.print(f"[red]{state.name} died and is started again[/red]; the end of its log:")
                console.print(lifecycle.log_tail(stack.config, state.name), markup=False)
            pids[state.name] = state.pid


def _wait(done: Any, timeout_s: float, complaint: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise StackError(f"{complaint} after {timeout_s:.0f} s")
        time.sleep(0.5)


def _say(seconds: float, line: str) -> None:
    console.print(f"[dim]{seconds:6.1f} s[/dim]  {line}")
