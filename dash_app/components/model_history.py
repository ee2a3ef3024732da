"""The figure of the models page: skill and coverage of a pair's versions over time, with the decisions as marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from dash_app.components.colours import FALLING, FAN, RISING
from dash_app.components.figures import GRID, LAYOUT, TEXT
from dash_app.components.formatting import plot_time, utc_time
from dash_app.components.wording import coverage, skill

_LOWEST_COVERAGE = 0.6  # at the bottom of the axis, unless a version's is lower
MARKS = {
    "Promoted": ("triangle-up", RISING),
    "Kept the champion": ("x", FALLING),
    "Rolled back": ("diamond", FAN),
    "No decision": ("circle-open", TEXT),
}


@dataclass(frozen=True)
class VersionPoint:
    """A version with its figures as fractions. `margin`: half of the 95 % interval of the skill."""

    version: str
    as_of_ms: int
    skill: float
    margin: float | None
    coverage: float | None
    decision: str

    @property
    def outcome(self) -> str:
        """Return what was decided, as one of the marks."""
        if self.decision.startswith("replaced"):  # by a person
            return "Rolled back"
        if self.decision.startswith("promoted"):
            return "Promoted"
        return "Kept the champion" if self.decision.startswith("refused") else "No decision"


def history_figure(points: Sequence[VersionPoint]) -> go.Figure:
    """Plot the skill with its margin above the coverage; the time is that of the newest training candle."""
    ordered = sorted(points, key=lambda point: (point.as_of_ms, int(point.version)))
    figure = go.Figure()
    _add_lines(figure, ordered)
    for outcome, (symbol, colour) in MARKS.items():
        chosen = [point for point in ordered if point.outcome == outcome]
        if chosen:
            figure.add_scatter(
                x=[plot_time(point.as_of_ms) for point in chosen],
                y=[point.skill for point in chosen],
                name=outcome,
                mode="markers",
                marker={"symbol": symbol, "color": colour, "size": 11},
                hovertext=[_hover(point) for point in chosen],
                hoverinfo="text",
            )
    figure.add_hline(y=0, line={"color": TEXT, "dash": "dot", "width": 1}, yref="y")
    figure.add_shape(
        type="line",
        xref="paper",
        x0=0,
        x1=1,
        yref="y2",
        y0=0.8,
        y1=0.8,
        line={"color": TEXT, "dash": "dot", "width": 1},
    )
    figure.update_layout(**LAYOUT, height=340)
    lowest = min([_LOWEST_COVERAGE, *(point.coverage - 0.05 for point in points if point.coverage is not None)])
    figure.update_layout(
        yaxis={"domain": [0.5, 1], "tickformat": "+.0%", "title_text": "skill"},
        yaxis2={
            "domain": [0, 0.36],
            "tickformat": ".0%",
            "title_text": "coverage, aim 80 %",
            "anchor": "x",
            "range": [lowest, 1],
        },
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, anchor="y2", nticks=6)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, title_font_size=12, nticks=5)
    return figure


def _add_lines(figure: go.Figure, points: Sequence[VersionPoint]) -> None:
    times = [plot_time(point.as_of_ms) for point in points]
    common = {"x": times, "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    margins = {"type": "data", "array": [point.margin or 0 for point in points], "color": TEXT, "thickness": 1}
    figure.add_scatter(**common, y=[point.skill for point in points], line={"color": RISING}, error_y=margins)
    figure.add_scatter(
        **common | {"mode": "lines+markers", "hoverinfo": "text"},
        y=[point.coverage for point in points],
        line={"color": RISING},
        hovertext=[_hover(point) for point in points],
        yaxis="y2",
    )


def _hover(point: VersionPoint) -> str:
    lines = [
        f"Version {point.version}, trained on data until {utc_time(point.as_of_ms)}",
        f"Skill: {skill(point.skill, point.margin)}",
        *([] if point.coverage is None else [f"Coverage of the 80 % band: {coverage(point.coverage)}"]),
        point.outcome,
    ]
    return "<br>".join(lines)
