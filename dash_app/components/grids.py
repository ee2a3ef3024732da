"""Columns of our tables, and what all of them have in common."""

from __future__ import annotations

from typing import Any

# Its colours are Mantine's, so that a table follows the light and the dark scheme by itself.
_THEME = (
    "themeQuartz.withParams({backgroundColor: 'var(--mantine-color-body)',"
    " foregroundColor: 'var(--mantine-color-text)', browserColorScheme: 'inherit',"
    " accentColor: '#1971c2', fontFamily: 'inherit', headerFontSize: 13, fontSize: 14,"
    " cellHorizontalPadding: 12, wrapperBorderRadius: 8})"
)
GRID: dict[str, Any] = {
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
        "cellDataType": False,  # a column of days is one of text: it may hold "never"
    },
}
ONE_ROW_CHOSEN = GRID | {"rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True}}


def text(title: str, field: str, *, comparator_field: str = "", **more: Any) -> dict[str, Any]:
    """`comparator_field`: the number that the text stands for when sorting."""
    made: dict[str, Any] = {"headerName": title, "field": field, "tooltipField": field}
    if comparator_field:
        made["comparator"] = {
            "function": f"(nodeA.data.{comparator_field} ?? 0) - (nodeB.data.{comparator_field} ?? 0)"
        }
    return made | more


def number(title: str, field: str, *, shown: str, **more: Any) -> dict[str, Any]:
    """Sorted as a number, shown as the text of another field."""
    formatter = {"function": f"params.data.{shown} || '–'"}
    return {"headerName": title, "field": field, "type": "rightAligned", "valueFormatter": formatter} | more


def percent(title: str, field: str, digits: int, *, signed: bool = True, **more: Any) -> dict[str, Any]:
    pattern = f"{'+' if signed else ''}.{digits}%"
    no_minus_zero = f"Math.round(params.value * 1e{digits + 2}) / 1e{digits + 2} + 0"
    formatter = {"function": f"params.value == null ? '–' : d3.format('{pattern}')({no_minus_zero})"}
    return {"headerName": title, "field": field, "type": "rightAligned", "valueFormatter": formatter} | more


def link(title: str, field: str, **more: Any) -> dict[str, Any]:
    """A cell that leads to the row's `href`, under its `label`."""
    return {"headerName": title, "field": field, "cellRenderer": "CellLink"} | more


def fitting(rows: int) -> dict[str, str]:
    """As high as its rows, and no higher than the window."""
    return {"height": f"min({68 + 42 * rows}px, max(320px, calc(100vh - 230px)))"}
