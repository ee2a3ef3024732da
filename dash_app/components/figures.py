"""Plotly figures: their common style, training losses, and API calls per day. The forecast has its own file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import plotly.graph_objects as go

from dash_app.components.colours import FALLING, FIGURE_TEXT, NEUTRAL, RISING, rgb

# dashboard.css selects texts by this colour and replaces it with the colour of the light or dark scheme.
TEXT, GRID = rgb(FIGURE_TEXT), rgb(NEUTRAL, 0.22)
_FEW = 4
LAYOUT: Mapping[str, Any] = {
    "margin": {"l": 8, "r": 8, "t": 30, "b": 8},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": TEXT, "family": "system-ui, sans-serif", "size": 12},
    "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
}


def loss_figure(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Plot the losses by epoch: the training loss as a solid line, the validation loss as a dashed one."""
    figure = go.Figure()
    for (name, losses), colour, dash in zip(curves.items(), (RISING, FALLING), ("solid", "dash"), strict=True):
        figure.add_scatter(
            x=list(range(1, len(losses) + 1)),
            y=list(losses),
            name=name.replace("_", " "),
            mode="lines+markers",
            line={"color": colour, "dash": dash},
        )
    longest = max(len(losses) for losses in curves.values())
    figure.update_layout(**LAYOUT, height=300)
    figure.update_xaxes(
        gridcolor=GRID, zeroline=False, title_text="epoch", title_font_size=12, dtick=max(1, longest // 10)
    )
    figure.update_yaxes(
        gridcolor=GRID, zeroline=False, tickformat=".4f", title_text="forecast error (pinball loss)", title_font_size=12
    )
    return figure


def usage_figure(by_day: Mapping[date, int], days: Sequence[date]) -> go.Figure:
    """Return a bar for each day's number of calls."""
    calls = [by_day.get(day, 0) for day in days]
    bars = go.Bar(
        x=[str(day.day) for day in days],
        y=calls,
        marker={"color": RISING},
        hovertext=[f"{day:%d %B}: {count:,} calls" for day, count in zip(days, calls, strict=True)],
        hoverinfo="text",
    )
    figure = go.Figure(bars)
    figure.update_layout(**LAYOUT, height=200, bargap=0.25)
    figure.update_layout(margin={"t": 8})
    figure.update_xaxes(
        type="category", tickangle=0, nticks=10, title_text=f"calls per day, {days[0]:%B}, UTC", title_font_size=12
    )
    figure.update_yaxes(gridcolor=GRID, zeroline=False, tickformat=",d", rangemode="tozero", nticks=5)
    if max(calls, default=0) < _FEW:  # Plotly would write halves, rounded to integers
        figure.update_yaxes(range=[0, _FEW], dtick=1)
    return figure
