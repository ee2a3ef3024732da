"""The pages, one file each, with `layout(settings)` for the components and `register(app, services)` for the callbacks.

Imports `dash_app.components`, `dash_app.records`, `dash_app.security` and `make_us_rich`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dash import Dash
from dash.development.base_component import Component

from dash_app.records import ForecastRecords
from make_us_rich.accounts import Accounts
from make_us_rich.client import Client
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database


@dataclass(frozen=True)
class Services:
    """What the callbacks of a page use."""

    settings: Settings
    accounts: Accounts
    client: Client
    records: ForecastRecords

    @property
    def database(self) -> Database:
        return self.accounts.database

    def close(self) -> None:
        """Close the connections to the forecast service and to Postgres."""
        self.client.close()
        self.database.close()


@dataclass(frozen=True)
class Page:
    """A page of the menu: its address, its name there, and the two functions of its file.

    `has_tables`: it uses AG Grid, whose script is loaded with the first page that needs it.
    """

    path: str
    label: str
    layout: Callable[[Settings], Component]
    register: Callable[[Dash, Services], None]
    for_admins: bool = False
    has_tables: bool = False
    in_menu: bool = True
