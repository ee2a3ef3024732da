"""Building blocks of a page: sections and controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Input, Output, State, dcc, html
from dash.development.base_component import Component

from dash_app.components.entries import pair_slug
from dash_app.components.formatting import Time, age, utc, utc_time
from make_us_rich.core.interval import Interval

if TYPE_CHECKING:
    from dash_app.callbacks import Callbacks

PAIRS_BY_START: Any = {"function": "pairsByStart"}  # in assets/dashMantineFunctions.js


def page(title: str, *content: Component, controls: Component | None = None) -> Component:
    """Stack the content below the title. `controls` stand to the right of the title."""
    heading: Component = dmc.Title(title, order=1, size="h2")
    if controls is not None:
        heading = dmc.Group([heading, controls], justify="space-between")
    return dmc.Stack([heading, *content], gap="md")


def panel(*content: Component) -> Component:
    """Return a framed box."""
    return dmc.Paper(list(content), withBorder=True, p="md", radius="md")


def small_button(label: str, button_id: str, **more: Any) -> Component:
    """Return a button for a row of form controls."""
    return dmc.Button(label, id=button_id, size="sm", variant="default", **more)


def submits(button_id: str) -> Mapping[str, Any]:
    """Return the keyword argument of a group of fields in which Enter clicks a button: see assets/enter.js."""
    return {"data-submits": button_id}


def pair_select(select_id: str, *, label: str, width: int | dict[str, object] = 200) -> Component:
    """Return a select for a pair, which the browser remembers. `label`: for screen readers."""
    return dmc.Select(
        id=select_id,
        data=[],
        searchable=True,
        clearSearchOnFocus=True,
        filter=PAIRS_BY_START,
        selectFirstOptionOnChange=True,
        nothingFoundMessage="No such pair",
        allowDeselect=False,
        placeholder="Pair",
        persistence=True,
        w=width,
        attributes={"input": {"aria-label": label}},
    )


def interval_switch(switch_id: str, intervals: Sequence[Interval]) -> Component:
    """Return a switch for the interval, which the browser remembers; invisible where the installation has one."""
    return dmc.SegmentedControl(
        id=switch_id,
        data=[{"value": interval, "label": interval} for interval in intervals],
        value=intervals[0],
        persistence=True,
        display=None if len(intervals) > 1 else "none",
        **aria_label("candle interval"),
    )


def follow_link(callbacks: Callbacks, switch_id: str) -> None:
    """Let a link with ?interval=4h set the switch when the page opens.

    Without one, the remembered interval stays if the installation still has it.
    """
    callbacks.in_browser(
        "controls.followLink",
        Output(switch_id, "value"),
        Input(switch_id, "id"),
        State("location", "search"),
        State(switch_id, "data"),
        State(switch_id, "value"),
    )


def remembered(values: Sequence[int | str], otherwise: int | str) -> dict[str, Any]:
    """Return the keyword arguments of a control whose value the browser remembers; see `keep_to_values`."""
    return {"persistence": True, "data-values": list(values), "data-otherwise": otherwise}


def keep_to_values(callbacks: Callbacks, control_id: str) -> None:
    """When the page opens, replace a remembered value that the control no longer has by `otherwise`."""
    callbacks.in_browser(
        "controls.keepToValues",
        Output(control_id, "value"),
        Input(control_id, "id"),
        *(State(control_id, name) for name in ("value", "data-values", "data-otherwise")),
    )


def pair_in_query(search: str | None) -> str:
    """Return the pair of a query string such as ?pair=btc_usdt, or an empty string."""
    return pair_slug(parse_qs((search or "").lstrip("?")).get("pair", [""])[0])


def graph(figure: go.Figure, **more: Any) -> Component:
    """Return a figure without Plotly's toolbar."""
    return dcc.Graph(figure=figure, config={"displayModeBar": False, "displaylogo": False}, className="plot", **more)


def local_time(time: Time) -> Component:
    """Return a time that the browser writes in local time, with UTC on hover; see assets/local_time.js."""
    return html.Time(utc_time(time), dateTime=utc(time).isoformat())


def running_age(hours: float) -> Component:
    """Return an age that the browser keeps up to date; see assets/running_age.js."""
    attribute: Mapping[str, Any] = {"data-age-hours": hours}
    return html.Span(age(hours), **attribute)


def aria_label(label: str) -> Mapping[str, Any]:
    """Return the keyword argument that names a component for screen readers."""
    return {"aria-label": label}
