"""Building blocks of a page: sections, controls, and tables with their columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qs

import dash_ag_grid as dag
import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component

from dash_app.components.entries import pair_slug
from dash_app.components.formatting import age, utc_time
from make_us_rich.core.interval import Interval

# assets/tables.js loads the script of the tables with the first page that has one.
for _script in dag._js_dist:
    if _script["relative_package_path"] == "dash_ag_grid.min.js":
        _script["dynamic"] = True

Column = dict[str, object]
"""A column definition of AG Grid: https://www.ag-grid.com/javascript-data-grid/column-properties"""

# The colours are Mantine's variables, so a table follows the light and dark schemes.
_THEME = (
    "themeQuartz.withParams({backgroundColor: 'var(--mantine-color-body)',"
    " foregroundColor: 'var(--mantine-color-text)', browserColorScheme: 'inherit',"
    " accentColor: 'var(--accent)', fontFamily: 'inherit', headerFontSize: 13, fontSize: 14,"
    " cellHorizontalPadding: 12, wrapperBorderRadius: 8})"
)
_OPTIONS = {
    "theme": {"function": _THEME},
    "animateRows": False,
    "tooltipShowDelay": 300,
    "enableCellTextSelection": True,
    "ensureDomOrder": True,
    "defaultColDef": {
        "sortable": True,
        "resizable": True,
        "flex": 1,
        "minWidth": 96,
        "filter": False,
        "cellDataType": False,  # else AG Grid takes a column of dates for dates, and it may hold "never"
    },
}
PAIRS_BY_START: Any = {"function": "pairsByStart"}  # in assets/dashMantineFunctions.js
_SELECTIONS = {
    "by click": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
    "by button": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": False},
}


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


def follow_link(app: Dash, switch_id: str) -> None:
    """Let a link with ?interval=4h set the switch when the page opens.

    Without one, the remembered interval stays if the installation still has it.
    """
    app.clientside_callback(
        """(id, search, data, value) => {
            const known = data.map((item) => item.value);
            const wanted = [new URLSearchParams(search).get("interval"), value];
            // the value all the same, because what follows from it is not called at the start after a no_update
            return wanted.find((interval) => known.includes(interval)) ?? known[0];
        }""",
        Output(switch_id, "value"),
        Input(switch_id, "id"),
        State("location", "search"),
        State(switch_id, "data"),
        State(switch_id, "value"),
    )


def keep_to_values(app: Dash, control_id: str, values: Sequence[int | str], otherwise: int | str) -> None:
    """Replace what the browser remembers of a control when the page opens, unless it is one of `values`."""
    app.clientside_callback(
        f"(id, value) => {json.dumps(list(values))}.includes(value) ? value : {json.dumps(otherwise)}",
        Output(control_id, "value"),
        Input(control_id, "id"),
        State(control_id, "value"),
    )


def pair_in_query(search: str | None) -> str:
    """Return the pair of a query string such as ?pair=btc_usdt, or an empty string."""
    return pair_slug(parse_qs((search or "").lstrip("?")).get("pair", [""])[0])


def graph(figure: go.Figure, **more: Any) -> Component:
    """Return a figure without Plotly's toolbar."""
    return dcc.Graph(figure=figure, config={"displayModeBar": False, "displaylogo": False}, className="plot", **more)


def local_time(time_ms: int) -> Component:
    """Return a time that the browser writes in local time, with UTC on hover; see assets/local_time.js."""
    return html.Time(utc_time(time_ms), dateTime=datetime.fromtimestamp(time_ms / 1000, UTC).isoformat())


def running_age(hours: float) -> Component:
    """Return an age that the browser keeps up to date; see assets/running_age.js."""
    attribute: Mapping[str, Any] = {"data-age-hours": hours}
    return html.Span(age(hours), **attribute)


def plain_table(head: Sequence[str], rows: Sequence[Sequence[Component | str]], *, min_width: int) -> Component:
    """Return a table without sorting that scrolls sideways below `min_width` pixels."""
    style = {"overflowWrap": "anywhere"}
    body = [dmc.TableTr([dmc.TableTd(cell, style=style) for cell in row]) for row in rows]
    header = dmc.TableTr([dmc.TableTh(title) for title in head])
    return dmc.TableScrollContainer(dmc.Table([dmc.TableThead(header), dmc.TableTbody(body)]), minWidth=min_width)


def aria_label(label: str) -> Mapping[str, Any]:
    """Return the keyword argument that names a component for screen readers."""
    return {"aria-label": label}


def table(
    table_id: str,
    columns: Sequence[Column],
    *,
    key: str = "",
    rows: int = 0,
    select: Literal["by click", "by button", "never"] = "never",
    empty: str = "Nothing here yet.",
) -> dag.AgGrid:
    """Return a table. `key`: the field that identifies a row; `rows`: height before the first rows arrive.

    `select`: how a row is selected; "by button" needs an `actions_column`. `empty`: what a table without rows says.
    """
    row_id: Mapping[str, Any] = {"getRowId": f"params.data.{key}"} if key else {}
    options = _OPTIONS | {"localeText": {"noRowsToShow": empty}}
    return dag.AgGrid(
        id=table_id,
        columnDefs=list(columns),
        dashGridOptions=options if select == "never" else options | {"rowSelection": _SELECTIONS[select]},
        style=height_of(rows),
        **row_id,
    )


def height_of(rows: int, *, limit: int | None = None) -> dict[str, str]:
    """Return the style of a table as high as its rows, or as `limit` rows, but no higher than the window."""
    shown = rows if limit is None else min(rows, limit)
    return {"height": f"min({68 + 42 * shown}px, max(320px, calc(100vh - 230px)))"}


def text_column(title: str, field: str, *, sort_field: str = "", **more: object) -> Column:
    """Return a column of text. `sort_field`: the field with the number to sort by."""
    column: Column = {"headerName": title, "field": field, "tooltipField": field}
    if sort_field:
        column["comparator"] = {"function": f"(nodeA.data.{sort_field} ?? 0) - (nodeB.data.{sort_field} ?? 0)"}
    return column | more


def wrapped_column(title: str, field: str, *, sort_field: str = "", **more: object) -> Column:
    """Return a column of texts that may be long or have several lines; a row is as high as its longest one."""
    return (
        text_column(title, field, sort_field=sort_field)
        | {"wrapText": True, "autoHeight": True, "cellClass": "wrapped"}
        | more
    )


def actions_column(field: str) -> Column:
    """Return the column of the buttons that open the actions of a row, named after a field of it."""
    return {
        "headerName": "Actions",
        "field": field,
        "colId": "actions",
        "cellRenderer": "RowActions",
        "sortable": False,
        "resizable": False,
        "pinned": "right",
        "flex": None,
        "width": 92,
    }


def actions_dialog(name: str, *content: Component) -> Component:
    """Return the dialog with the actions of a selected row. `name`-title holds its title, `name`-notice a refusal."""
    return dmc.Modal(
        dmc.Stack([*content, html.Div(id=f"{name}-notice", role="status")]),
        id=name,
        title=dmc.Text(id=f"{name}-title", fw=600),
        closeButtonProps=dict(aria_label("close")),  # type: ignore[arg-type]  # its type lacks ARIA attributes
    )


def open_by_row(app: Dash, name: str, table_id: str) -> None:
    """Open a dialog by the buttons of a table's `actions_column`."""
    app.clientside_callback(
        """(clicked) => clicked ? [true, null] : [false, null]""",
        Output(name, "opened"),
        Output(f"{name}-notice", "children"),
        Input(table_id, "cellRendererData"),
        prevent_initial_call=True,
    )
