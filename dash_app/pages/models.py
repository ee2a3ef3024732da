"""The registry, pair by pair: versions, what was decided about each and why, how it was trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component
from flask_login import current_user
from pydantic import Field
from typing_extensions import TypedDict

from dash_app.components import notices
from dash_app.components.figures import loss_figure
from dash_app.components.formatting import asked_pair, clock, pair_label
from dash_app.components.grids import ONE_ROW_CHOSEN, fitting, percent, text
from dash_app.security.callbacks import Clicks, PairName, Text, checked
from dash_app.security.guard import admins_only
from make_us_rich.accounts import Accounts
from make_us_rich.client import Client, ServiceRefused, ServiceUnavailable
from make_us_rich.core.errors import RegistryError
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.registry import promotion
from make_us_rich.registry.client import (
    CHAMPION,
    PREVIOUS,
    TAG_AIRFLOW_RUN,
    TAG_ARCHITECTURE,
    TAG_AS_OF_MS,
    TAG_COVERAGE_80,
    TAG_SKILL_VS_NAIVE,
    ModelVersion,
    Registry,
    TrainingRun,
    foundation_name,
    model_name,
)

_FOUNDATION = "foundation"
ModelChoice = Literal["foundation"] | PairName
_LOSSES = ("train_loss", "validation_loss")
_COLUMNS = [
    text("Version", "version", width=96, flex=0),
    text("Alias", "alias", minWidth=104),
    text("Architecture", "architecture", minWidth=112),
    text("Knows until", "as_of", comparator_field="as_of_ms", minWidth=170),
    percent("Skill", "skill", 1, headerTooltip="Pinball loss saved against the naive forecast, on unseen weeks"),
    percent("Held", "coverage", 1, signed=False, headerTooltip="Share of unseen closes inside the 80 % band"),
    text("Decision", "decision", flex=4, minWidth=280),
]


class VersionChoice(TypedDict):
    """Of a chosen row, what its details read."""

    version: Annotated[str, Field(pattern="^[0-9]{1,9}$")]
    run_id: Annotated[str, Field(pattern="^[0-9a-f]{0,32}$")]
    decision: str
    airflow_run: str


def layout() -> Component:
    return dmc.Stack(
        [
            dmc.Group(
                [
                    dmc.Title("Models", order=1, size="h2"),
                    dmc.Select(
                        id="models-pair",
                        data=[],
                        searchable=True,
                        allowDeselect=False,
                        persistence=True,
                        w=200,
                        attributes={"input": {"aria-label": "pair whose models are listed"}},
                    ),
                ],
                justify="space-between",
            ),
            html.Div(id="models-notice", role="status"),
            dag.AgGrid(
                id="models-grid",
                columnDefs=_COLUMNS,
                getRowId="params.data.version",
                dashGridOptions=ONE_ROW_CHOSEN,
                style=fitting(0),
            ),
            *(_rollback() if current_user.is_admin else []),
            dmc.Box(id="model-detail"),
        ],
        gap="md",
    )


def _rollback() -> list[Component]:
    return [
        dmc.Group(
            [
                dmc.Button("Go back to the previous champion", id="rollback", variant="default"),
                dmc.Text("The next run decides anew. Going back again undoes it.", size="sm", c="dimmed"),
            ]
        ),
        dcc.ConfirmDialog(id="confirm-rollback", message="Let the previous champion serve this pair, starting now?"),
    ]


def register(app: Dash, settings: Settings, accounts: Accounts, client: Client) -> None:
    database_url = settings.database_url.get_secret_value()
    mlflow_url, airflow_url = settings.mlflow_link_url, settings.airflow_link_url
    registry = Registry(settings)

    @app.callback(
        Output("models-pair", "data"),
        Output("models-pair", "value"),
        Input("models-pair", "id"),
        State("models-pair", "value"),
        State("location", "search"),
    )
    @checked
    def offer_pairs(_: str, chosen: Text, search: Text) -> tuple[list[dict[str, str]], str | None]:
        pairs = [item.pair for item in pairs_table.tracked(database_url)]
        offered = [{"value": pair, "label": pair_label(pair)} for pair in pairs]
        offered.append({"value": _FOUNDATION, "label": "Foundation, of all pairs"})
        known = [item["value"] for item in offered]
        wanted = (asked_pair(search), chosen, known[0])
        return offered, next(pair for pair in wanted if pair in known)

    app.clientside_callback(
        """(pair) => {
            if (pair && location.pathname === "/models") history.replaceState(null, "", `/models?pair=${pair}`);
        }""",
        Input("models-pair", "value"),
    )

    @app.callback(
        Output("models-grid", "rowData"),
        Output("models-grid", "style"),
        Output("models-grid", "selectedRows"),
        Output("models-notice", "children"),
        Input("models-pair", "value"),
    )
    @checked
    def show_versions(pair: ModelChoice | None) -> tuple[Any, ...]:
        if pair is None:
            return no_update, no_update, no_update, no_update
        try:
            rows = _rows(registry, _name(pair, settings.interval))
        except RegistryError as error:
            return [], fitting(0), [], notices.registry_down(str(error))
        notice = None if rows else notices.no_model_yet()
        return rows, fitting(len(rows)), rows[:1], notice

    @app.callback(Output("model-detail", "children"), Input("models-grid", "selectedRows"))
    @checked
    def show_version(selected: list[VersionChoice] | None) -> Any:
        if not selected:
            return None
        row = selected[0]
        try:
            run = registry.run(row["run_id"])
            curves = {metric: registry.metric_history(row["run_id"], metric) for metric in _LOSSES}
        except RegistryError as error:
            return notices.registry_down(str(error))
        return _detail(row, run, curves, mlflow_url, airflow_url)

    @app.callback(Output("confirm-rollback", "displayed"), Input("rollback", "n_clicks"), prevent_initial_call=True)
    @admins_only
    @checked
    def ask_before_rollback(clicks: Clicks) -> bool:
        return bool(clicks)

    @app.callback(
        Output("models-notice", "children", allow_duplicate=True),
        Output("models-grid", "rowData", allow_duplicate=True),
        Input("confirm-rollback", "submit_n_clicks"),
        State("models-pair", "value"),
        prevent_initial_call=True,
    )
    @admins_only
    @checked
    def roll_back(clicks: Clicks, pair: ModelChoice | None) -> tuple[Any, Any]:
        if not clicks or pair is None:
            return no_update, no_update
        name = _name(pair, settings.interval)
        try:
            decision = promotion.rollback(registry, database_url, name, by=current_user.name)
            accounts.audit(current_user.name, "roll back model", name, decision.reason)
            rows = _rows(registry, name)
        except RegistryError as error:
            return dmc.Alert(str(error), color="red", variant="light", title="Nothing was changed"), no_update
        try:
            client.update_models()
            told = "The service runs it."
        except (ServiceUnavailable, ServiceRefused) as error:
            told = f"The service does not run it yet: {error}"
        said = f"{decision.reason[0].upper()}{decision.reason[1:]}. {told}"
        return dmc.Alert(said, color="teal", variant="light"), rows


def _name(pair: str, interval: str) -> str:
    return foundation_name(interval) if pair == _FOUNDATION else model_name(Pair.parse(pair), interval)


def _rows(registry: Registry, name: str) -> list[dict[str, Any]]:
    """Newest first."""
    held = {alias: found.version for alias in (CHAMPION, PREVIOUS) if (found := registry.find(name, alias))}
    return [_row(version, held) for version in registry.versions(name)]


def _row(version: ModelVersion, held: dict[str, int]) -> dict[str, Any]:
    tags = version.tags
    as_of_ms = int(tags.get(TAG_AS_OF_MS, 0))
    return {
        "version": str(version.version),
        "alias": ", ".join(alias for alias, number in held.items() if number == version.version),
        "architecture": tags.get(TAG_ARCHITECTURE, ""),
        "as_of_ms": as_of_ms,
        "as_of": clock(as_of_ms) if as_of_ms else "",
        "skill": float(tags[TAG_SKILL_VS_NAIVE]) if TAG_SKILL_VS_NAIVE in tags else None,
        "coverage": float(tags[TAG_COVERAGE_80]) if TAG_COVERAGE_80 in tags else None,
        "decision": tags.get(promotion.TAG_DECISION, "not decided yet"),
        "run_id": version.run_id,
        "airflow_run": tags.get(TAG_AIRFLOW_RUN, ""),
    }


def _detail(
    row: VersionChoice, run: TrainingRun, curves: dict[str, list[float]], mlflow_url: str, airflow_url: str
) -> Component:
    links = [("MLflow run", f"{mlflow_url}/#/experiments/{run.experiment_id}/runs/{row['run_id']}")]
    if row["airflow_run"]:
        links.append(("Airflow run", f"{airflow_url}/dags/{row['airflow_run']}"))
    return dmc.Paper(
        dmc.Stack(
            [
                dmc.Group(
                    [
                        dmc.Title(f"Version {row['version']}", order=2, size="h4"),
                        *(dmc.Anchor(label, href=href, target="_blank", size="sm") for label, href in links),
                    ]
                ),
                dmc.Text(row["decision"]),
                dmc.SimpleGrid(
                    [
                        dmc.Box(
                            dcc.Graph(figure=loss_figure(curves), config={"displayModeBar": False}, className="plot")
                            if any(curves.values())
                            else dmc.Text("No loss curve was logged.", c="dimmed")
                        ),
                        dmc.Box(_numbers(run)),
                    ],
                    cols={"base": 1, "md": 2},
                ),
            ],
            gap="sm",
        ),
        withBorder=True,
        p="md",
        radius="md",
    )


def _numbers(run: TrainingRun) -> Component:
    shown = {key: f"{value:.5g}" for key, value in sorted(run.metrics.items()) if key not in _LOSSES}
    rows = [
        dmc.TableTr([dmc.TableTd(key.replace("_", " ")), dmc.TableTd(value, ta="right")])
        for key, value in (shown | dict(sorted(run.params.items()))).items()
    ]
    return dmc.ScrollArea(
        dmc.Table(dmc.TableTbody(rows), verticalSpacing=4, fz="sm", striped=True),
        h=300,
        type="auto",
        offsetScrollbars=True,
    )
