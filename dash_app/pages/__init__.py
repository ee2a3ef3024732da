"""The pages. Each has a file, or a folder with layout.py and callbacks.py, and names itself as PAGE.

A layout is a function from the settings to components. A callback is a function of module level that `Callbacks`
decorates; it gets what it reads and changes from `services()`. JavaScript is in assets/. docs/how-to/extend.md adds a
page. Imports `dash_app.callbacks`, `dash_app.components`, `dash_app.records`, `dash_app.security` and `make_us_rich`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dash.development.base_component import Component
from flask import current_app

from dash_app.cache import ShownForecasts
from dash_app.callbacks import Callbacks
from dash_app.records import ForecastRecords
from make_us_rich.accounts import Accounts
from make_us_rich.client import Client
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from make_us_rich.registry.client import Registry


@dataclass(frozen=True)
class Page:
    """A page: its address, its name in the menu, its components and its callbacks.

    `has_tables`: it uses AG Grid, whose script is loaded with the first page that needs it.
    """

    path: str
    label: str
    layout: Callable[[Settings], Component]
    callbacks: Callbacks
    for_admins: bool = False
    has_tables: bool = False
    in_menu: bool = True


@dataclass(frozen=True)
class Services:
    """What the callbacks of one dashboard use. `pages`: by address."""

    settings: Settings
    accounts: Accounts
    client: Client
    records: ForecastRecords
    pages: Mapping[str, Page]
    shown: ShownForecasts = field(default_factory=ShownForecasts)

    @property
    def database(self) -> Database:
        return self.accounts.database

    @cached_property
    def registry(self) -> Registry:
        return Registry.for_requests(self.settings)

    def close(self) -> None:
        """Close the connections to the forecast service and to Postgres."""
        self.client.close()
        self.database.close()


def services() -> Services:
    """Return the services of the dashboard that answers this request."""
    found: Services = current_app.extensions["services"]
    return found
