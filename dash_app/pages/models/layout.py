"""The components of the models page: its controls and table, the history of a pair, and the details of a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component
from flask_login import current_user
from pydantic import Field
from typing_extensions import TypedDict

from dash_app.components.confirmation import confirmation, opens
from dash_app.components.figures import loss_figure
from dash_app.components.formatting import architecture_name, utc_day, utc_time
from dash_app.components.layout import graph, interval_switch, page, pair_select, panel
from dash_app.components.model_history import VersionPoint, history_figure
from dash_app.components.model_metrics import metrics_table
from dash_app.components.tables import table, text_column
from dash_app.components.wording import coverage, skill
from make_us_rich.core.settings import Settings
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

ROLLBACK_NOTE = "The next training run may promote another version. A second rollback undoes the first."
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
                dmc.Button(
                    "Roll back to the previous champion", id="rollback", variant="default", **opens("confirm-rollback")
                ),
                dmc.Text(ROLLBACK_NOTE, size="sm", c="dimmed", id="rollback-note"),
            ]
        ),
        confirmation(
            "confirm-rollback",
            "Roll back?",
            "The previous champion serves this pair from now on. Callers notice no interruption.",
            action="Roll back",
            colour="blue",
        ),
    ]


def history(points: Sequence[VersionPoint]) -> Component:
    title = dmc.Title("Skill and coverage on weeks that the model was not trained on", order=2, size="h4")
    words = dmc.Text(_HISTORY_WORDS, size="sm", c="dimmed")
    return panel(dmc.Stack([title, words, graph(history_figure(points))], gap="xs"))


def detail(
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


def version_rows(registry: Registry, name: str) -> list[VersionRow]:
    """Return all versions, the champion first, then the newest."""
    versions = sorted(registry.versions_with_aliases(name), key=lambda each: CHAMPION not in each[1])
    champion_as_of_ms = max((version.as_of_ms for version, aliases in versions if CHAMPION in aliases), default=0)
    return [version_row(version, ", ".join(aliases), champion_as_of_ms) for version, aliases in versions]


def version_row(version: ModelVersion, alias: str, champion_as_of_ms: int) -> VersionRow:
    """Return the row of a version. champion_as_of_ms: the data of the champion, 0 without one."""
    tags = version.tags
    as_of_ms = int(tags.get(TAG_AS_OF_MS, 0))
    measured, margin = version.number(TAG_SKILL_VS_NAIVE), version.number(TAG_SKILL_MARGIN)
    share = version.number(TAG_COVERAGE_80)
    return {
        "version": str(version.version),
        "alias": alias,
        "architecture": architecture_name(tags.get(TAG_ARCHITECTURE, "")),
        "as_of_ms": as_of_ms,
        "as_of": (utc_day if version.shipped else utc_time)(as_of_ms) if as_of_ms else "",
        "skill": measured,
        "skill_text": skill(measured),
        "margin": margin,
        "coverage": share,
        "coverage_text": coverage(share),
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
