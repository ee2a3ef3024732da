"""Columns and options that all AG Grid tables share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_ag_grid as dag

Column = dict[str, object]
"""A column definition of AG Grid: https://www.ag-grid.com/javascript-data-grid/column-properties"""

# The colours are Mantine's variables, so a table follows the light and dark schemes.
_THEME = (
    "themeQuartz.withParams({backgroundColor: 'var(--mantine-color-body)',"
    " foregroundColor: 'var(--mantine-color-text)', browserColorScheme: 'inherit',"
    " accentColor: '#1971c2', fontFamily: 'inherit', headerFontSize: 13, fontSize: 14,"
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
_SINGLE_ROW = {"rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True}}


def table(
    table_id: str, columns: Sequence[Column], *, key: str = "", rows: int = 0, selectable: bool = False
) -> dag.AgGrid:
    """Return a table. `key`: the field that identifies a row; `rows`: height before the first rows arrive."""
    row_id: Mapping[str, Any] = {"getRowId": f"params.data.{key}"} if key else {}
    return dag.AgGrid(
        id=table_id,
        columnDefs=list(columns),
        dashGridOptions=_OPTIONS | _SINGLE_ROW if selectable else _OPTIONS,
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


def number_column(title: str, field: str, *, text_field: str, **more: object) -> Column:
    """Return a column that sorts by the number in `field` and shows the text in `text_field`."""
    return _right_aligned(title, field, f"params.data.{text_field} || '–'") | more


def percent_column(title: str, field: str, digits: int, *, signed: bool = True, **more: object) -> Column:
    """Return a column of fractions, written as percentages."""
    pattern = f"{'+' if signed else ''}.{digits}%"
    without_minus_zero = f"Math.round(params.value * 1e{digits + 2}) / 1e{digits + 2} + 0"
    formatter = f"params.value == null ? '–' : d3.format('{pattern}')({without_minus_zero})"
    return _right_aligned(title, field, formatter) | more


def link_column(title: str, field: str, **more: object) -> Column:
    """Return a column of links to the row's `href`, with its `label` as text."""
    return {"headerName": title, "field": field, "cellRenderer": "CellLink"} | more


def _right_aligned(title: str, field: str, formatter: str) -> Column:
    return {"headerName": title, "field": field, "type": "rightAligned", "valueFormatter": {"function": formatter}}
