"""A table whose rows have a dialog with actions, as users and pairs have on the admin page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc
from dash import Output, html, no_update
from dash.development.base_component import Component

from dash_app.components import notices
from dash_app.components.layout import aria_label
from dash_app.components.tables import Column, table
from make_us_rich.core.errors import MakeUsRichError


def dialog(name: str, title: str, *content: Component) -> Component:
    """Return a dialog for entries. `name`-title holds its title, `name`-notice a refusal."""
    return dmc.Modal(
        dmc.Stack([*content, html.Div(id=f"{name}-notice", role="status")]),
        id=name,
        title=dmc.Text(title, fw=600, id=f"{name}-title"),
        closeButtonProps=dict(aria_label("close")),  # type: ignore[arg-type]  # its type lacks ARIA attributes
    )


@dataclass(frozen=True)
class RowActions:
    """The ids of a table and of the dialog of its rows. `table`-notice says what an action did."""

    table: str
    dialog: str

    def layout(
        self, columns: Sequence[Column], key: str, *actions: Component, label: str, empty: str = "Nothing here yet."
    ) -> list[Component]:
        """Return the notice, the table and the dialog. `label`: the field of a row that names it for screen readers."""
        buttons: Column = {
            "headerName": "Actions",
            "field": label,
            "colId": "actions",
            "cellRenderer": "RowActions",
            "cellRendererParams": {"dialog": self.dialog},
            "sortable": False,
            "resizable": False,
            "pinned": "right",
            "flex": None,
            "width": 92,
        }
        return [
            html.Div(id=f"{self.table}-notice", role="status"),
            table(self.table, (*columns, buttons), key=key, rows=4, select="by button", empty=empty),
            dialog(self.dialog, "", *actions),
        ]

    def outputs(self, of_dialog: str = "") -> list[Output]:
        """Return the outputs of a callback that returns `run`. `of_dialog`: whose action it is, if not the rows'."""
        name = of_dialog or self.dialog
        parts = (
            (f"{self.table}-notice", "children"),
            (f"{name}-notice", "children"),
            (name, "opened"),
            (self.table, "rowData"),
            (self.table, "style"),
        )
        return [Output(*part, allow_duplicate=True) for part in parts]

    def run(self, action: Callable[[], Component], draw: Callable[[], tuple[Any, Any]]) -> tuple[Any, ...]:
        """Run an action and close its dialog; when it is refused, say so in the dialog.

        `action` returns the notice of success. `draw` returns the rows and the height of the table.
        """
        try:
            notice = action()
        except MakeUsRichError as error:
            return no_update, notices.refusal(error), True, no_update, no_update
        return notice, None, False, *draw()
