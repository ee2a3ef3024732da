"""Running the place: people, pairs, health, the audit log. Every callback here is for admins only."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import Dash
from dash.development.base_component import Component

from dash_app.pages.admin import audit, health, pairs, users
from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings

_TABS = (("People", users), ("Pairs", pairs), ("Health", health), ("Audit log", audit))


def layout() -> Component:
    return dmc.Stack(
        [
            dmc.Title("Admin", order=1, size="h2"),
            dmc.Tabs(
                [
                    dmc.TabsList([dmc.TabsTab(label, value=label) for label, _ in _TABS]),
                    *(dmc.TabsPanel(tab.layout(), value=label, pt="md") for label, tab in _TABS),
                ],
                id="admin-tabs",
                value=_TABS[0][0],
                keepMounted=False,
            ),
        ],
        gap="md",
    )


def register(app: Dash, settings: Settings, accounts: Accounts) -> None:
    users.register(app, settings, accounts)
    pairs.register(app, settings, accounts)
    health.register(app, settings)
    audit.register(app, accounts)
