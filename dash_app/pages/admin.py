"""Admin: tabs for users, pairs, health, the alerts and the audit log. Every callback is for admins only."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import dash_mantine_components as dmc
from dash import Input, Output, State, no_update
from dash.development.base_component import Component

from dash_app.callbacks import Callbacks
from dash_app.components.formatting import utc
from dash_app.components.layout import page
from dash_app.components.tables import plain_table, table, text_column, wrapped_column
from dash_app.pages import Page, admin_pairs, admin_users, services
from dash_app.security.validation import Clicks, Text
from make_us_rich.core.settings import Settings
from make_us_rich.database import alerts as alerts_table
from make_us_rich.database.alerts import RecordedAlert
from make_us_rich.operations.health import HealthResult, check_components

_HEALTH, _ALERTS, _AUDIT_LOG = "Health", "Alerts", "Audit-log"
"""Names of tabs, which become parts of ids: a space in them breaks the tab for screen readers."""
_ALERT_COLUMNS = (
    text_column("Time, UTC", "at", minWidth=184),
    wrapped_column("Alert", "title", flex=2, minWidth=200),
    wrapped_column("Text", "text", flex=4, minWidth=260, cellRenderer="markdown"),
    wrapped_column("Discord", "outcome", flex=2, minWidth=170),
)
_AUDIT_COLUMNS = (
    text_column("Time, UTC", "at", minWidth=184),
    wrapped_column("Actor", "actor", minWidth=130),
    text_column("Action", "action", minWidth=150),
    wrapped_column("Subject", "subject", minWidth=130),
    wrapped_column("Details", "detail", flex=3, minWidth=220),
)


def layout(_: Settings) -> Component:
    tabs = {
        "Users": admin_users.layout(),
        admin_pairs.TAB: admin_pairs.layout(),
        _HEALTH: _health(),
        _ALERTS: table("admin-alerts", _ALERT_COLUMNS, rows=12, empty="No alert so far."),
        _AUDIT_LOG: table("admin-audit", _AUDIT_COLUMNS, rows=12, empty="No entry yet."),
    }
    return page(
        "Admin",
        dmc.Tabs(
            [
                dmc.TabsList([dmc.TabsTab(tab.replace("-", " "), value=tab) for tab in tabs]),
                *(dmc.TabsPanel(content, value=tab, pt="md") for tab, content in tabs.items()),
            ],
            id="admin-tabs",
            value="Users",
            keepMounted=False,
        ),
    )


def _health() -> Component:
    return dmc.Stack(
        [
            dmc.Group(
                [
                    dmc.Button("Check again", id="admin-check-health", variant="default"),
                    dmc.Text("A component that does not answer takes up to 30 seconds to check.", c="dimmed"),
                ]
            ),
            dmc.Box(id="admin-health", children=dmc.Skeleton(h=320)),
        ]
    )


_STATE_COLOURS = {"ok": "teal", "warning": "orange", "failed": "red"}
_MAX_ENTRIES = 500

callbacks = Callbacks(admin_users.callbacks, admin_pairs.callbacks)
# The tab is part of the address, so that a reload and a link show it.
callbacks.in_browser(
    "admin.tabOfAddress",
    Output("admin-tabs", "value"),
    Input("admin-tabs", "id"),
    State("admin-tabs", "children"),
    State("admin-tabs", "value"),
)
callbacks.in_browser("admin.rememberTab", Input("admin-tabs", "value"), prevent_initial_call=True)


@callbacks(
    Output("admin-health", "children"),
    Input("admin-check-health", "n_clicks"),
    Input("admin-tabs", "value"),
    running=[(Output("admin-check-health", "loading"), True, False)],
    for_admins=True,
)
def check_health(_: Clicks, tab: Text) -> Any:
    if tab != _HEALTH:
        return no_update
    rows = [_health_row(result) for result in check_components(services().settings)]
    return plain_table(("Component", "State", "Finding", "What to do"), rows, min_width=640)


@callbacks(Output("admin-alerts", "rowData"), Input("admin-tabs", "value"), for_admins=True)
def show_alerts(tab: Text) -> Any:
    if tab != _ALERTS:
        return no_update
    return [_alert_row(alert) for alert in alerts_table.newest(services().database, _MAX_ENTRIES)]


@callbacks(Output("admin-audit", "rowData"), Input("admin-tabs", "value"), for_admins=True)
def show_audit_log(tab: Text) -> Any:
    if tab != _AUDIT_LOG:
        return no_update
    entries = services().accounts.audit.entries(_MAX_ENTRIES)
    return [asdict(entry) | {"at": _second(entry.at)} for entry in entries]


def _alert_row(alert: RecordedAlert) -> dict[str, str]:
    outcome = f"not posted: {alert.problem}" if alert.problem else "posted"
    return {"at": _second(alert.at), "title": alert.title, "text": alert.text, "outcome": outcome}


def _second(at: datetime) -> str:
    return f"{utc(at):%Y-%m-%d %H:%M:%S}"


def _health_row(result: HealthResult) -> tuple[Component | str, ...]:
    badge = dmc.Badge(result.state, color=_STATE_COLOURS[result.state], variant="light", tt="none", miw="max-content")
    return dmc.Text(result.name, fw=600, size="sm"), badge, result.detail, result.way_out


PAGE = Page("/admin", "Admin", layout, callbacks, for_admins=True, has_tables=True)
