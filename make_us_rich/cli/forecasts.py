"""`mkrich train` and `mkrich forecast`: a training run in Airflow, and forecasts from the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from make_us_rich.cli.shared import AsJson, Pairs, print_json, settings_here, utc_text
from make_us_rich.core.interval import Interval
from make_us_rich.core.terminal import console, print_progress

if TYPE_CHECKING:
    from make_us_rich.core.settings import Settings
    from make_us_rich.documents import Forecast
    from make_us_rich.operations.airflow import Airflow

_RUN_TIMEOUT_S = 3600.0


def register(app: typer.Typer) -> None:
    app.command()(train)
    app.command()(forecast)


def train(
    pairs: Pairs = None,
    interval: Annotated[str | None, typer.Option(help="candle interval; only 1h is supported")] = None,
    as_of: Annotated[str | None, typer.Option(help="train on candles closed by this time only (ISO, UTC)")] = None,
    foundation: Annotated[
        bool,
        typer.Option("--foundation", help="train the foundation model, from which each pair's model is fine-tuned"),
    ] = False,
    follow: Annotated[bool, typer.Option(help="wait for the end and print each step")] = True,
    as_json: AsJson = False,
) -> None:
    """Start a training run in Airflow and follow it. The exit code is 1 when a part of it failed."""
    from make_us_rich.operations.airflow import Airflow

    settings = settings_here()
    chosen = {"pairs": pairs, "interval": interval and Interval.parse_trained(interval), "as_of": as_of}
    dag_id = "train_foundation" if foundation else "train_pairs"
    with Airflow.from_settings(settings) as airflow:
        airflow.unpause(dag_id)
        run_id = airflow.trigger(dag_id, {key: value for key, value in chosen.items() if value})
        state = _follow(airflow, dag_id, run_id, settings, quiet=as_json) if follow else "queued"
    if as_json:
        print_json({"dag_id": dag_id, "run_id": run_id, "state": state})
    else:
        console.print(f"{run_id}: {state}; {settings.airflow_link_url}/dags/{dag_id}")
    if state == "failed":
        raise typer.Exit(1)


def _follow(airflow: Airflow, dag_id: str, run_id: str, settings: Settings, *, quiet: bool) -> str:
    from make_us_rich.operations.run_progress import RunProgress

    progress = RunProgress(airflow, dag_id, run_id, settings.ray_url, settings.ray_token.get_secret_value())
    return progress.follow((lambda seconds, line: None) if quiet else print_progress, _RUN_TIMEOUT_S)


def forecast(
    pairs: Pairs = None,
    token: Annotated[str, typer.Option(envvar="MUR_TOKEN", help="your API token; by default the pipeline's")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the present forecasts of the HTTP API."""
    from make_us_rich.client import Client

    settings = settings_here()
    with Client(settings.api_url, token or settings.service_token.get_secret_value()) as api:
        found = [api.forecast(pair) for pair in pairs or api.pairs()]
    if as_json:
        print_json([item.model_dump() for item in found])
        return
    table = Table("pair", "last close", "for", "median", "80 % band", "model", "skill vs naive", "notes")
    for item in found:
        table.add_row(*_row(item))
    console.print(table)


def _row(item: Forecast) -> list[str]:
    skill = item.model.skill_vs_naive
    return [
        item.pair,
        f"{item.last_close:.6g}",
        utc_text(item.target_close_ms),
        f"{item.quantiles['q50']:.6g}",
        f"{item.quantiles['q10']:.6g} to {item.quantiles['q90']:.6g}",
        f"v{item.model.version} {item.model.architecture}, {item.model.age_hours:.1f} h",
        "unknown" if skill is None else f"{skill:+.1%}",
        ", ".join(name for name, is_so in item.flags if is_so),
    ]
