"""Who did what to whom."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag
from dash import Dash, Input, Output
from dash.development.base_component import Component

from dash_app.components.grids import GRID, fitting, text
from dash_app.security.callbacks import checked
from dash_app.security.guard import admins_only
from make_us_rich.accounts import Accounts

_MOST = 500


def layout() -> Component:
    columns = [
        text("When, UTC", "at", minWidth=160),
        text("Who", "actor", minWidth=120),
        text("Did", "action", minWidth=150),
        text("To", "subject", minWidth=120),
        text("Detail", "detail", flex=3, minWidth=200),
    ]
    return dag.AgGrid(id="admin-audit", columnDefs=columns, dashGridOptions=GRID, style=fitting(12))


def register(app: Dash, accounts: Accounts) -> None:
    @app.callback(Output("admin-audit", "rowData"), Input("admin-audit", "id"))
    @admins_only
    @checked
    def show(_: str) -> list[dict[str, Any]]:
        return [
            {
                "at": f"{entry.at:%Y-%m-%d %H:%M:%S}",
                "actor": entry.actor,
                "action": entry.action,
                "subject": entry.subject,
                "detail": entry.detail,
            }
            for entry in accounts.audit_entries(_MOST)
        ]
