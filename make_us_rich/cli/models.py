"""Train models, list, promote and roll back their versions, and show their forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from getpass import getuser
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from make_us_rich.cli.shared import AsJson, IntervalOption, Pairs, audit, print_json, settings_here, time_cell
from make_us_rich.core.errors import BadModel, InputError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.core.terminal import console, print_progress
from make_us_rich.core.times import past_time
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZONS, Forecast, HorizonForecast
from make_us_rich.registry import promotion
from make_us_rich.registry.client import (
    CHAMPION,
    TAG_ARCHITECTURE,
    TAG_AS_OF_MS,
    TAG_COVERAGE_80,
    TAG_SKILL_VS_NAIVE,
    ModelVersion,
    Registry,
)

if TYPE_CHECKING:
    from make_us_rich.pipeline.airflow import Airflow

FOUNDATION = "foundation"

Model = Annotated[str, typer.Argument(help="a pair such as btc_usdt, or `foundation`")]
By = Annotated[str, typer.Option(help="name to record with the decision; by default your user name")]
Serve = Annotated[bool, typer.Option(help="make the service load it at once")]


def train(
    pairs: Pairs = None,
    interval: IntervalOption = None,
    as_of: Annotated[str | None, typer.Option(help="train on candles closed by this time only (ISO, UTC)")] = None,
    foundation: Annotated[
        bool,
        typer.Option("--foundation", help="train the foundation model, on the most traded pairs unless you name some"),
    ] = False,
    follow: Annotated[bool, typer.Option(help="wait for the end and print each step")] = True,
    as_json: AsJson = False,
) -> None:
    """Start a training run in Airflow and follow it. The exit code is 1 when a part of it failed.

    While the DAG is paused no run of it can begin: the command refuses then.
    """
    from make_us_rich.pipeline.airflow import Airflow, dag_of

    settings = settings_here()
    if as_of:
        past_time(as_of)
    chosen = {"pairs": pairs, "as_of": as_of}
    dag = dag_of("train_foundation" if foundation else "train_pairs", settings.forecast_interval(interval))
    with Airflow.from_settings(settings) as airflow:
        run_id = airflow.start(dag, {key: value for key, value in chosen.items() if value})
        state = _follow(airflow, dag, run_id, settings, quiet=as_json) if follow else "queued"
    if as_json:
        print_json({"dag_id": dag, "run_id": run_id, "state": state})
    else:
        console.print(f"{run_id}: {state}; {settings.airflow_link_url}/dags/{dag}")
    if state == "failed":
        raise typer.Exit(1)


def _follow(airflow: Airflow, dag_id: str, run_id: str, settings: Settings, *, quiet: bool) -> str:
    from make_us_rich.pipeline.airflow import RunProgress

    progress = RunProgress(airflow, dag_id, run_id, settings.ray_url, settings.ray_token.get_secret_value())
    return progress.follow((lambda seconds, line: None) if quiet else print_progress)


def forecast(
    pairs: Pairs = None,
    horizon: Annotated[
        int | None, typer.Option(min=1, max=HORIZONS, help="candles ahead; by default the next close, with --json all")
    ] = None,
    interval: IntervalOption = None,
    token: Annotated[str, typer.Option(envvar="MUR_TOKEN", help="your API token; by default the pipeline's")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the present forecasts of the HTTP API."""
    from make_us_rich.client import Client

    settings = settings_here()
    with Client(settings.api_url, token or settings.service_token.get_secret_value()) as api:
        asked, length = (horizon,) if horizon else (), settings.forecast_interval(interval)
        chosen = pairs or api.pairs(length)
        found = [api.forecast(pair, horizons=asked, interval=interval) for pair in chosen]
    if as_json:
        print_json([item.model_dump() for item in found])
        return
    table = Table("pair", "last close", "for", "median", "80 % band", "model", "skill vs naive", "notes")
    for item in found:
        table.add_row(*_forecast_row(item, item.at(horizon or 1)))
    console.print(table)


def _forecast_row(item: Forecast, ahead: HorizonForecast) -> list[str]:
    skill, quantiles = ahead.skill_vs_naive, ahead.quantiles
    return [
        item.pair,
        f"{item.last_close:.6g}",
        time_cell(ahead.target_close_ms),
        f"{quantiles['q50']:.6g}",
        f"{quantiles['q10']:.6g} to {quantiles['q90']:.6g}",
        f"v{item.model.version} {item.model.architecture}, {item.model.age_hours:.1f} h",
        "unknown" if skill is None else f"{skill:+.1%}",
        ", ".join(name for name, is_so in item.flags if is_so),
    ]


def models(
    pair: Annotated[
        str | None, typer.Argument(help="list the versions of this pair or of `foundation`; by default all champions")
    ] = None,
    interval: IntervalOption = None,
    as_json: AsJson = False,
) -> None:
    """List the champions, or every version of one model with the decision about it."""
    settings = settings_here()
    with Registry(settings) as registry:
        if pair:
            found = registry.versions_with_aliases(name_of(pair, settings.forecast_interval(interval)))
        else:
            found = champions(registry, settings, settings.forecast_intervals(interval))
    if as_json:
        print_json([asdict(version) | {"aliases": aliases} for version, aliases in found])
        return
    table = Table("model", "version", "alias", "architecture", "trained until", "skill", "80 % band", "decision")
    for version, aliases in found:
        table.add_row(version.name, str(version.version), ", ".join(aliases), *_version_row(version))
    console.print(table)


def promote(
    pair: Model,
    version: Annotated[int, typer.Argument(help="version number, from `mkrich models PAIR`")],
    interval: IntervalOption = None,
    by: By = "",
    serve: Serve = True,
) -> None:
    """Make a version the champion without a comparison. The old champion stays as `previous`.

    A version whose graph is missing or breaks the contract is refused, because no replica would serve it.
    """
    settings = settings_here()
    name = name_of(pair, settings.forecast_interval(interval))
    with Registry(settings) as registry, Database.from_settings(settings) as database:
        _refuse_broken(registry, name, version)
        decision = promotion.promote_manually(registry, database, name, version, by=by or getuser())
        audit(database, "promote model", name, decision.reason)
    _print_and_serve(settings, name, decision, serve)


def _refuse_broken(registry: Registry, name: str, number: int) -> None:
    """Load the graph of a version as a replica does. Raises BadModel, or RegistryError when it cannot be fetched."""
    from make_us_rich.forecasting.onnx_model import OnnxModel

    version = registry.get(name, number)
    try:
        OnnxModel.load(registry.download(version), name)
    except BadModel as error:
        raise BadModel(f"version {number} of {name} is broken and stays what it is: {error}") from None


def rollback(pair: Model, interval: IntervalOption = None, by: By = "", serve: Serve = True) -> None:
    """Make the previous champion the champion again. A second rollback undoes it."""
    settings = settings_here()
    name = name_of(pair, settings.forecast_interval(interval))
    with Registry(settings) as registry, Database.from_settings(settings) as database:
        decision = promotion.rollback(registry, database, name, by=by or getuser())
        audit(database, "roll back model", name, decision.reason)
    _print_and_serve(settings, name, decision, serve)


def _print_and_serve(settings: Settings, name: str, decision: promotion.PromotionDecision, serve: bool) -> None:
    console.print(f"{name}: {decision.reason}")
    if serve:
        from make_us_rich.pipeline.deployment import apply

        apply(settings, wait_for=[name])
        console.print("the service serves it now")


def name_of(pair: str, interval: Interval) -> str:
    """Return the registered name of a pair's model or of the foundation model. Raises UnknownPair."""
    return foundation_name(interval) if pair == FOUNDATION else Series(Pair.parse(pair), interval).name


def champions(
    registry: Registry, settings: Settings, intervals: Sequence[Interval]
) -> list[tuple[ModelVersion, list[str]]]:
    """Return the champions of each active pair and of the foundation, with their alias."""
    with Database.from_settings(settings) as database:
        pairs = [item.pair for item in pairs_table.active(database)]
    names = [name_of(pair, interval) for interval in intervals for pair in [*pairs, FOUNDATION]]
    found = [registry.find(name, CHAMPION) for name in names]
    return [(version, [CHAMPION]) for version in found if version is not None]


def _version_row(version: ModelVersion) -> list[str]:
    tags, skill, coverage = version.tags, version.number(TAG_SKILL_VS_NAIVE), version.number(TAG_COVERAGE_80)
    as_of = tags.get(TAG_AS_OF_MS)
    return [
        tags.get(TAG_ARCHITECTURE, ""),
        time_cell(int(as_of)) if as_of else "",
        "" if skill is None else f"{skill:+.1%}",
        "" if coverage is None else f"{coverage:.1%}",
        tags.get(promotion.TAG_DECISION, ""),
    ]


def mcp(
    url: Annotated[str, typer.Option(envvar="MUR_API_URL", help="the HTTP API")] = "http://127.0.0.1:28000",
    token: Annotated[str, typer.Option(envvar="MUR_TOKEN", help="your API token")] = "",
) -> None:
    """Offer the forecasts as tools to an agent, by the Model Context Protocol over stdin and stdout."""
    from make_us_rich.agents import make_server
    from make_us_rich.client import Client

    if not token:
        raise InputError("an agent needs a token of its own: set MUR_TOKEN (`mkrich tokens create`)", field="token")
    with Client(url, token) as api:
        make_server(api).run("stdio")
