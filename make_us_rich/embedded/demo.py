"""`mkrich demo`: start the stack, show its forecasts, follow a run of the hourly DAG, show the forecasts of its models.

The first forecasts of a new stack are those of the shipped foundation.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

from rich.table import Table

from make_us_rich.accounts import Accounts
from make_us_rich.client import Client, ServiceRefused, ServiceUnavailable
from make_us_rich.core.errors import ComponentDied, StackError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings, read_settings
from make_us_rich.core.terminal import console, print_progress
from make_us_rich.database.pool import Database
from make_us_rich.documents import Forecast
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.components import Service
from make_us_rich.embedded.environment import ADMIN, DEMO_USER, database_url, forget_foreign_variables
from make_us_rich.embedded.lifecycle import Stack
from make_us_rich.embedded.stack_config import StackConfig, new_stack_config
from make_us_rich.embedded.supervisor import wait_until
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.recordings import recorded_pairs
from make_us_rich.pipeline.airflow import Airflow, RunProgress, dag_of
from make_us_rich.registry.client import mlflow_page

DEMO_PAIRS = ("btc_usdt", "eth_usdt", "chz_usdt")
_DAG_TIMEOUT_S = 120.0
_RUN_TIMEOUT_S = 1800.0
_SCHEDULED_RUN_TIMEOUT_S = 10.0
_FORECAST_TIMEOUT_S = 60.0


def chosen_stack_config(*, live: bool, data: Path | None) -> StackConfig:
    """Return the configuration for the market that the options choose. Raises StackError when they choose two."""
    if live and data:
        raise StackError("--live and --data are two markets: choose one")
    return new_stack_config("binance" if live else "recorded" if data else "simulated", data)


def start_stack(*, live: bool, data: Path | None, service: Service | None = None, dags_paused: bool = False) -> Stack:
    """Start the stack of the chosen market, or one service of it, and print its progress.

    `dags_paused`: keep the DAGs of a new stack paused, unless MUR_DAGS_PAUSED is set.

    Raises before anything starts: SettingsError for a setting that the components would refuse, MarketError when the
    live exchange does not serve this machine.
    """
    config, what = chosen_stack_config(live=live, data=data), service or "the stack"
    if live:
        ExchangeClient(read_settings().exchange_url).server_time_ms()
    read_settings(lifecycle.open_stack(config, dags_paused=dags_paused).environment)
    forget_foreign_variables()
    console.print(f"starting {what} with the [bold]{config.market}[/bold] market; the first start takes longest")
    began = time.monotonic()
    stack = lifecycle.up(
        config, lambda name, seconds: print_progress(seconds, f"{name} is ready"), service, dags_paused
    )
    console.print(f"{what} is ready after {time.monotonic() - began:.0f} s")
    if service is None and not dags_paused and not read_settings(stack.environment).dags_paused:
        _unpause_dags(stack)
    return stack


def _unpause_dags(stack: Stack) -> None:
    """Unpause what an earlier command left paused, such as `mkrich demo --once`, and what nobody has paused since."""
    with Airflow(stack.config.url("airflow"), ADMIN, stack.secrets.admin_password) as airflow:
        unpaused = airflow.unpause_untouched()
    if unpaused:
        console.print(f"unpaused the DAGs that were paused since the first start: {', '.join(unpaused)}")


def run_demo(*, once: bool, live: bool, data: Path | None) -> int:
    """Run the demo until Ctrl-C, or with `once` until the forecasts are shown.

    Returns the exit code: with `once`, 0 when every pair was trained and served.
    """
    os.environ.setdefault("MUR_PAIRS", ",".join(_demo_pairs(data)))
    settings = read_settings()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # handle it like Ctrl-C
    # The other DAGs are unpaused after the run that is shown, so that they do not slow it down.
    stack = start_stack(live=live, data=data, dags_paused=True)
    try:
        with Airflow(stack.config.url("airflow"), ADMIN, stack.secrets.admin_password) as airflow:
            _show_first_forecasts(stack, settings)
            states = [_follow_run(stack, airflow, interval) for interval in settings.intervals]
            all_served = _show_forecasts(stack, list(product(settings.intervals, settings.pairs)))
            show_addresses(stack)
            if once:
                return 0 if all_served and set(states) == {"success"} else 1
            airflow.pause_all(False)
        console.print("\nthe stack stays up and trains every hour; Ctrl-C ends it")
        _report_restarts(stack)
    except KeyboardInterrupt:
        console.print("\nstopping")
    finally:
        lifecycle.down(stack.config)
        console.print(f"the stack is down; its data stays in {stack.config.state}")
    return 0


def _demo_pairs(data: Path | None) -> list[Pair]:
    """Return the pairs of the demo; of a recording those that it has, and others in place of the missing ones."""
    wanted = [Pair.parse(name) for name in DEMO_PAIRS]
    if data is None:
        return wanted
    have = recorded_pairs(data)
    return sorted(have, key=lambda pair: wanted.index(pair) if pair in wanted else len(wanted))[: len(wanted)] or wanted


def dashboard_login(stack: Stack, name: str) -> str:
    """Return name and password of an account of the dashboard, without the password if it is another one by now."""
    password = stack.secrets.admin_password if name == ADMIN else stack.secrets.demo_password
    with Accounts(Database(database_url(stack.config, stack.secrets, "make_us_rich"))) as accounts:
        return (
            f"{name} / {password if accounts.users.can_log_in(name, password) else '(changed since the first start)'}"
        )


def show_addresses(stack: Stack) -> None:
    """Print the URL and the login of each web interface."""
    config, secrets = stack.config, stack.secrets
    table = Table("interface", "address", "login", title="addresses", title_justify="left", title_style="bold")
    login = f"{ADMIN} / {secrets.admin_password}"
    mlflow = f"{stack.environment['MUR_MLFLOW_USER']} / {stack.environment['MUR_MLFLOW_PASSWORD']}"
    of_the_dashboard = f"{dashboard_login(stack, DEMO_USER)}, or {dashboard_login(stack, ADMIN)}"
    table.add_row("dashboard", config.url("dash"), of_the_dashboard)
    table.add_row("HTTP API", f"{config.url('api')}/docs", "a token from the dashboard's API page")
    table.add_row("Airflow", config.url("airflow"), login)
    table.add_row("MLflow", mlflow_page(config.url("mlflow"), "experiments"), mlflow)
    table.add_row("Ray", config.url("ray_dashboard"), f"token {secrets.ray_token}")
    console.print(table)


def _follow_run(stack: Stack, airflow: Airflow, interval: Interval) -> str:
    """Print the progress of a training run until it ends; returns its state."""
    dag_id = dag_of("train_pairs", interval)
    wait_until(lambda: airflow.has_dag(dag_id), _DAG_TIMEOUT_S, f"Airflow has not read the {dag_id} DAG", poll_s=0.5)
    airflow.unpause(dag_id)
    # The first time a DAG is unpaused, Airflow starts the run of the last close.
    with suppress(StackError):
        wait_until(lambda: airflow.active_runs(dag_id), _SCHEDULED_RUN_TIMEOUT_S, "no run is scheduled", poll_s=0.5)
    active = airflow.active_runs(dag_id)
    run_id = active[0] if active else airflow.trigger(dag_id)
    began = time.monotonic()
    console.print(f"\nfollowing run {run_id} of {dag_id}")
    progress = RunProgress(airflow, dag_id, run_id, stack.config.url("ray_dashboard"), stack.secrets.ray_token)
    state = progress.follow(print_progress, _RUN_TIMEOUT_S)
    console.print(f"run {state} after {time.monotonic() - began:.0f} s")
    return state


def _show_first_forecasts(stack: Stack, settings: Settings) -> None:
    """Print what is served before the run: in a new stack the forecasts of the shipped foundation."""
    began = time.monotonic()
    with Client(stack.config.url("api"), stack.secrets.service_token) as api:
        served = [(interval, pair) for interval in settings.intervals for pair in api.pairs(interval)]
    if served and _show_forecasts(stack, served):
        console.print(f"forecast {time.monotonic() - began:.0f} s after the stack was ready, before it trains anything")


def _show_forecasts(stack: Stack, served: Sequence[tuple[Interval, Pair]]) -> bool:
    """Print a table of the forecasts; returns whether every one is served."""
    table = Table(
        "pair",
        "candles",
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
    all_served = True
    with Client(stack.config.url("api"), stack.secrets.service_token) as api:
        for interval, pair in served:
            try:
                table.add_row(*_cells(_forecast(api, pair, interval)))
            except (ServiceRefused, ServiceUnavailable) as error:
                all_served = False
                table.add_row(pair, interval, f"[red]not served: {error}[/red]")
    console.print(table)
    return all_served


def _forecast(api: Client, pair: str, interval: str) -> Forecast:
    """Retry until the service has swapped to the pair's new model."""
    deadline = time.monotonic() + _FORECAST_TIMEOUT_S
    while True:
        try:
            return api.forecast(pair, interval=interval)
        except ServiceUnavailable:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)


def _cells(forecast: Forecast) -> list[str]:
    quantiles, model = forecast.quantiles, forecast.model
    return [
        forecast.pair,
        forecast.interval,
        f"{forecast.last_close:.6g}",
        f"{quantiles['q50']:.6g}",
        f"{quantiles['q10']:.6g} to {quantiles['q90']:.6g}",
        "shipped foundation" if model.shipped else f"v{model.version} {model.architecture}",
        f"{model.age_hours:.1f} h" if model.age_hours < 48 else f"{model.age_hours / 24:.0f} d",
        "unknown" if model.skill_vs_naive is None else f"{model.skill_vs_naive:+.1%}",
    ]


def _report_restarts(stack: Stack) -> None:
    """Until Ctrl-C, print the end of the log of each component that exits. Raises ComponentDied for supervisord."""
    pids = {state.name: state.pid for state in lifecycle.status(stack.config)}
    while True:
        time.sleep(2)
        states = lifecycle.status(stack.config)
        if not states:
            raise ComponentDied("supervisord exited")
        for state in states:
            if state.is_down or (state.pid and state.pid != pids[state.name]):
                console.print(f"[red]{state.name} exited and is started again[/red]; the end of its log:")
                console.print(lifecycle.log_tail(stack.config, state.name), markup=False)
            pids[state.name] = state.pid
