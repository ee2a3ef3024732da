"""Building blocks of a page's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import dcc
from dash.development.base_component import Component


def page(title: str, *content: Component, controls: Component | None = None) -> Component:
    """Stack the content below the title. `controls` stand to the right of the title."""
    heading: Component = dmc.Title(title, order=1, size="h2")
    if controls is not None:
        heading = dmc.Group([heading, controls], justify="space-between")
    return dmc.Stack([heading, *content], gap="md")


def panel(*content: Component) -> Component:
    """Return a framed box."""
    return dmc.Paper(list(content), withBorder=True, p="md", radius="md")


def small_button(label: str, button_id: str) -> Component:
    """Return a button for a row of form controls."""
    return dmc.Button(label, id=button_id, size="sm", variant="default")


def pair_select(select_id: str, *, label: str, width: int | dict[str, object] = 200) -> Component:
    """Return a select for a pair, which the browser remembers. `label`: for screen readers."""
    return dmc.Select(
        id=select_id,
        data=[],
        searchable=True,
        allowDeselect=False,
        placeholder="Pair",
        persistence=True,
        w=width,
        attributes={"input": {"aria-label": label}},
    )


def graph(figure: go.Figure, **more: Any) -> Component:
    """Return a figure without Plotly's toolbar."""
    return dcc.Graph(figure=figure, config={"displayModeBar": False, "displaylogo": False}, className="plot", **more)


def plain_table(head: Sequence[str], rows: Sequence[Sequence[Component | str]], *, min_width: int) -> Component:
    """Return a table without sorting that scrolls sideways below `min_width` pixels."""
    style = {"overflowWrap": "anywhere"}
    body = [dmc.TableTr([dmc.TableTd(cell, style=style) for cell in row]) for row in rows]
    header = dmc.TableTr([dmc.TableTh(title) for title in head])
    return dmc.TableScrollContainer(dmc.Table([dmc.TableThead(header), dmc.TableTbody(body)]), minWidth=min_width)


def aria_label(label: str) -> Mapping[str, Any]:
    """Return the keyword argument that names a component for screen readers."""
    return {"aria-label": label}
