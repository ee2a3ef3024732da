"""Tables: AG Grid for many rows that are sorted, selected or read by keyboard, plain HTML for a few.

AG Grid's script is a third of the dashboard: it is loaded with the first page that has such a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash.development.base_component import Component

# assets/tables.js loads it.
for _script in dag._js_dist:
    if _script["relative_package_path"] == "dash_ag_grid.min.js":
        _script["dynamic"] = True

Column = dict[str, object]
"""A column definition of AG Grid: https://www.ag-grid.com/javascript-data-grid/column-properties"""

_OPTIONS = {
    "theme": {"function": "dashboardTheme(themeQuartz)"},  # in assets/tables.js, as bySortField below
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
_SELECTIONS = {
    "by click": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
    "by button": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": False},
}


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

    `select`: how a row is selected; "by button" needs a column with a button. `empty`: what a table without rows says.
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
        column["comparator"] = {"function": f"bySortField(nodeA, nodeB, '{sort_field}')"}
    return column | more


def wrapped_column(title: str, field: str, *, sort_field: str = "", **more: object) -> Column:
    """Return a column of texts that may be long or have several lines; a row is as high as its longest one."""
    return (
        text_column(title, field, sort_field=sort_field)
        | {"wrapText": True, "autoHeight": True, "cellClass": "wrapped"}
        | more
    )


def plain_table(head: Sequence[str], rows: Sequence[Sequence[Component | str]], *, min_width: int) -> Component:
    """Return a table without sorting that scrolls sideways below `min_width` pixels."""
    style = {"overflowWrap": "anywhere"}
    body = [dmc.TableTr([dmc.TableTd(cell, style=style) for cell in row]) for row in rows]
    header = dmc.TableTr([dmc.TableTh(title) for title in head])
    return dmc.TableScrollContainer(dmc.Table([dmc.TableThead(header), dmc.TableTbody(body)]), minWidth=min_width)
