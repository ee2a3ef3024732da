"""The notice of the forecasts page for a pair that is parked or off, and still served until the next deployment."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, html
from dash.development.base_component import Component

from dash_app.components import notices
from dash_app.security.validation import Clicks, Text, validated
from make_us_rich.database.pool import Database


def box() -> Component:
    return html.Div(id="parked", role="status")


def register(app: Dash, database: Database) -> None:
    @app.callback(Output("parked", "children"), Input("pair", "value"), Input("refresh", "n_intervals"))
    @validated
    def show_parked(pair: Text, _: Clicks) -> Any:
        return notices.inactive(database, pair) if pair else None
