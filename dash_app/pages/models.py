"""Models: the registered versions of a pair, why each was promoted or refused, and its training run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html, no_update
from dash.development.base_component import Component
from flask_login import current_user
from pydantic import Field
from typing_extensions import TypedDict

from dash_app.components import confirmation, notices
from dash_app.components.figures import loss_figure
from dash_app.components.formatting import architecture_name, as_sentence, pair_label, percent, utc_day, utc_time
from dash_app.components.layout import (
    follow_link,
    graph,
    height_of,
    interval_switch,
    page,
    pair_in_query,
    pair_select,
    panel,
    table,
    text_column,
)
from dash_app.components.model_history import VersionPoint, history_figure
from dash_app.components.model_metrics import LOSSES, metrics_table
from dash_app.pages import Services
from dash_app.security.access import admins_only
from dash_app.security.validation import Clicks, IntervalName, Remembered, Text, validated
from make_us_rich.client import ServiceRefused, ServiceUnavailable
from make_us_rich.core.errors import RegistryError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.pipeline.training_budget import due_trainings
from make_us_rich.registry import promotion
from make_us_rich.registry.client import (
    BACKFILL_RUN,
    CHAMPION,
    TAG_AIRFLOW_RUN,
    TAG_ARCHITECTURE,
    TAG_AS_OF_MS,
    TAG_COVERAGE_80,
    TAG_SKILL_MARGIN,
    TAG_SKILL_VS_NAIVE,
    ModelVersion,
    Registry,
    TrainingRun,
    mlflow_page,
)

_FOUNDATION = "foundation"
ModelChoice = Literal["foundation"] | Pair
_YEAR_2100_MS = 4_102_444_800_000
_COLUMNS = (
    text_column("Version", "version", width=96, flex=0),
    text_column("Alias", "alias", minWidth=116),
    text_column("Architecture", "architecture", minWidth=112),
    text_column(
        "Trained on data until",
        "as_of",
        sort_field="as_of_ms",
        minWidth=170,
        headerTooltip="Close of the newest training candle",
    ),
    text_column(
        "Skill",
        "skill_text",
        sort_field="skill",
        type="rightAligned",
        minWidth=90,
        headerTooltip="How much smaller the forecast error (pinball loss) is than that of the naive forecast, on weeks "
        "that the model was not trained on",
    ),
    text_column(
        "Coverage",
        "coverage_text",
        sort_field="coverage",
        type="rightAligned",
        headerTooltip="Share of closes inside the 80 % band, on the same weeks",
    ),
    text_column("Decision", "decision", flex=4, minWidth=280),
)

_ROLLBACK_NOTE = "The next training run may promote another version. A second rollback undoes the first."
_HISTORY_WORDS = (
    "Skill: how much smaller the forecast error is than that of the naive forecast; above 0 % is good; the bars are "
    "its 95 % margin. Coverage: the share of closes inside the 80 % band; near 80 % is good. A mark is what was "
    "decided."
)


class SelectedVersion(TypedDict):
    """The fields of a selected row that the details read."""

    version: Annotated[str, Field(pattern="^[0-9]{1,9}$")]
    run_id: Annotated[str, Field(pattern="^[0-9a-f]{0,32}$")]
    decision: str
    airflow_run: str


class VersionRow(SelectedVersion):
    """A row of the table. Figures that were never measured are None."""

    alias: str
    architecture: str
    as_of_ms: Annotated[int, Field(ge=0, le=_YEAR_2100_MS)]
    as_of: str
    skill: float | None
    skill_text: str
    margin: float | None
    coverage: float | None
    coverage_text: str


def layout(settings: Settings) -> Component:
    return page(
        "Models",
        html.Div(id="models-notice", role="status"),
        dmc.Text(id="models-due", c="dimmed", size="sm"),
        html.Div(id="models-history"),
        table(
            "models-grid",
            _COLUMNS,
            key="version",
            select="by click",
            empty="No version yet: the first training makes one.",
        ),
        *(_rollback_controls() if current_user.is_admin else []),
        dmc.Box(id="model-detail"),
        controls=dmc.Group(
            [
                interval_switch("models-interval", settings.intervals),
                pair_select("models-pair", label="pair whose models are listed"),
            ],
            gap="xs",
        ),
    )


def _rollback_controls() -> list[Component]:
    return [
        dmc.Group(
            [
                dmc.Button("Roll back to the previous champion", id="rollback", variant="default"),
                dmc.Text(_ROLLBACK_NOTE, size="sm", c="dimmed", id="rollback-note"),
            ]
        ),
        confirmation.confirmation(
            "confirm-rollback",
            "Roll back?",
            "The previous champion serves this pair from now on. Callers notice no interruption.",
            action="Roll back",
            colour="blue",
        ),
    ]


def register(app: Dash, services: Services) -> None:
    settings, database = services.settings, services.database
    registry = Registry.for_requests(settings)

    @app.callback(
        Output("models-pair", "data"),
        Output("models-pair", "value"),
        Input("models-pair", "id"),
        State("models-pair", "value"),
        State("location", "search"),
    )
    @validated
    def offer_pairs(_: str, selected: Remembered, search: Text) -> tuple[list[dict[str, str]], str | None]:
        names: list[str] = [item.pair for item in pairs_table.tracked(database)]
        options = [{"value": name, "label": pair_label(name)} for name in names]
        options.append({"value": _FOUNDATION, "label": "Foundation model"})
        names.append(_FOUNDATION)
        in_query = pair_in_query(search)
        if in_query and in_query not in names:  # the page says so
            return options, None
        return options, next(name for name in (in_query, selected, names[0]) if name in names)

    app.clientside_callback(
        """(pair, interval, intervals) => window.rememberChoice("/models", pair, interval, intervals)""",
        Input("models-pair", "value"),
        Input("models-interval", "value"),
        State("models-interval", "data"),
    )
    follow_link(app, "models-interval")

    @app.callback(
        Output("models-grid", "rowData"),
        Output("models-grid", "style"),
        Output("models-grid", "selectedRows"),
        Output("models-notice", "children"),
        Input("models-pair", "value"),
        Input("models-interval", "value"),
        State("location", "search"),
    )
    @validated
    def show_versions(pair: ModelChoice | None, interval: IntervalName, search: Text) -> tuple[Any, ...]:
        if pair is None:
            in_query = pair_in_query(search)
            if in_query in {"", _FOUNDATION, *(item.pair for item in pairs_table.tracked(database))}:
                return no_update, no_update, no_update, no_update
            return [], height_of(0), [], notices.not_served(pair_label(in_query), None)
        try:
            rows = _rows(registry, _registered_name(pair, interval))
        except RegistryError as error:
            return [], height_of(0), [], notices.registry_down(error)
        champion = [row for row in rows if CHAMPION in row["alias"].split(", ")]
        notice = notices.inactive(database, pair) or (None if rows else notices.no_model_yet())
        return rows, height_of(len(rows)), champion or rows[:1], notice

    @app.callback(Output("models-history", "children"), Input("models-grid", "rowData"))
    @validated
    def show_history(rows: list[VersionRow] | None) -> Component | None:
        points = [
            VersionPoint(row["version"], row["as_of_ms"], row["skill"], row["margin"], row["coverage"], row["decision"])
            for row in rows or []
            if row["skill"] is not None and row["as_of_ms"]
        ]
        return _history(points) if points else None

    @app.callback(Output("models-due", "children"), Input("models-pair", "value"), Input("models-interval", "value"))
    @validated
    def show_due(pair: ModelChoice | None, interval: IntervalName) -> str:
        trainings = due_trainings(database, settings, time.time_ns() // 1_000_000)
        due = next((item for item in trainings if (item.pair, item.interval) == (pair, interval)), None)
        if due is None:
            return ""
        trained = f"as of {utc_time(due.trained_ms)}" if due.trained_ms else "never"
        failed = f" The training as of {utc_time(due.failed_ms)} failed" if due.failed_ms else ""
        failed += f": {as_sentence(due.failure)}" if due.failure else "." if failed else ""
        return f"Last trained: {trained}.{failed} Next training: about {utc_time(due.due_ms)}, {due.why}."

    @app.callback(Output("model-detail", "children"), Input("models-grid", "selectedRows"))
    @validated
    def show_version(selected: list[SelectedVersion] | None) -> Component | None:
        if not selected:
            return None
        row = selected[0]
        try:
            run = registry.run(row["run_id"])
            losses = {metric: registry.metric_history(row["run_id"], metric) for metric in LOSSES}
        except RegistryError as error:
            return notices.registry_down(error)
        return _detail(row, run, losses, settings)

    confirmation.open_by(app, "confirm-rollback", "rollback")
    confirmation.register(app, "confirm-rollback")

    @app.callback(
        Output("models-notice", "children", allow_duplicate=True),
        Output("models-grid", "rowData", allow_duplicate=True),
        Input("confirm-rollback-yes", "n_clicks"),
        State("models-pair", "value"),
        State("models-interval", "value"),
        prevent_initial_call=True,
        running=[
            (Output("rollback", "loading"), True, False),
            (Output("rollback-note", "children"), "Rolling back: the service loads the model …", _ROLLBACK_NOTE),
        ],
    )
    @admins_only
    @validated
    def roll_back(clicks: Clicks, pair: ModelChoice | None, interval: IntervalName) -> tuple[Any, Any]:
        if not clicks or pair is None:
            return no_update, no_update
        name = _registered_name(pair, interval)
        try:
            decision = promotion.rollback(registry, database, name, by=current_user.name)
            services.accounts.audit.write(current_user.name, "roll back model", name, decision.reason)
            rows = _rows(registry, name)
        except RegistryError as error:
            return notices.refusal(error), no_update
        try:
            services.client.update_models(wait_for=[name])
            state = "The service has loaded it."
        except (ServiceUnavailable, ServiceRefused) as error:
            state = f"The service has not loaded it yet: {error}"
        return notices.success(f"{as_sentence(decision.reason)} {state}"), rows


def _history(points: Sequence[VersionPoint]) -> Component:
    title = dmc.Title("Skill and coverage on weeks that the model was not trained on", order=2, size="h4")
    words = dmc.Text(_HISTORY_WORDS, size="sm", c="dimmed")
    return panel(dmc.Stack([title, words, graph(history_figure(points))], gap="xs"))


def _registered_name(pair: ModelChoice, interval: Interval) -> str:
    return Series(pair, interval).name if isinstance(pair, Pair) else foundation_name(interval)


def _rows(registry: Registry, name: str) -> list[VersionRow]:
    """Return all versions, the champion first, then the newest."""
    versions = sorted(registry.versions_with_aliases(name), key=lambda each: CHAMPION not in each[1])
    champion_as_of_ms = max((version.as_of_ms for version, aliases in versions if CHAMPION in aliases), default=0)
    return [version_row(version, ", ".join(aliases), champion_as_of_ms) for version, aliases in versions]


def version_row(version: ModelVersion, alias: str, champion_as_of_ms: int) -> VersionRow:
    """Return the row of a version. champion_as_of_ms: the data of the champion, 0 without one."""
    tags = version.tags
    as_of_ms = int(tags.get(TAG_AS_OF_MS, 0))
    skill, coverage = version.number(TAG_SKILL_VS_NAIVE), version.number(TAG_COVERAGE_80)
    return {
        "version": str(version.version),
        "alias": alias,
        "architecture": architecture_name(tags.get(TAG_ARCHITECTURE, "")),
        "as_of_ms": as_of_ms,
        "as_of": (utc_day if version.shipped else utc_time)(as_of_ms) if as_of_ms else "",
        "skill": skill,
        "skill_text": "–" if skill is None else percent(skill, decimals=1, signed=True),
        "margin": version.number(TAG_SKILL_MARGIN),
        "coverage": coverage,
        "coverage_text": "–" if coverage is None else percent(coverage, decimals=1),
        "decision": tags.get(promotion.TAG_DECISION) or _why_undecided(version, champion_as_of_ms),
        "run_id": version.run_id,
        "airflow_run": tags.get(TAG_AIRFLOW_RUN, ""),
    }


def _why_undecided(version: ModelVersion, champion_as_of_ms: int) -> str:
    if BACKFILL_RUN in version.tags.get(TAG_AIRFLOW_RUN, ""):
        return "none: a backfill promotes nothing"
    if version.as_of_ms < champion_as_of_ms:  # versions of a backfill had no tag of their run before
        return "none: it has older data than the champion"
    return "pending: decided at the end of its training run"


def _detail(
    row: SelectedVersion, run: TrainingRun, losses: Mapping[str, Sequence[float]], settings: Settings
) -> Component:
    runs = ("experiments", run.experiment_id, "runs")
    links = [
        ("MLflow run", mlflow_page(settings.mlflow_link_url, *runs, row["run_id"])),
        ("All runs in MLflow", mlflow_page(settings.mlflow_link_url, *runs)),
    ]
    if row["airflow_run"]:
        links.append(("Airflow run", f"{settings.airflow_link_url}/dags/{row['airflow_run']}"))
    anchors = [dmc.Anchor(label, href=href, target="_blank", size="sm") for label, href in links]
    curves = graph(loss_figure(losses)) if any(losses.values()) else dmc.Text("No loss curve was logged.", c="dimmed")
    return panel(
        dmc.Stack(
            [
                dmc.Group([dmc.Title(f"Version {row['version']}", order=2, size="h4"), *anchors]),
                dmc.Text(row["decision"]),
                dmc.SimpleGrid([dmc.Box(curves), dmc.Box(metrics_table(run))], cols={"base": 1, "md": 2}),
            ],
            gap="sm",
        )
    )
