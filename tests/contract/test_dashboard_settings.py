"""Dashboards of different settings in one process: each shows its own."""

from __future__ import annotations

import pytest

from dash_app.app import create_app
from make_us_rich.accounts import Accounts
from make_us_rich.core.interval import Interval
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from tests.support.dashboard_client import DashboardClient, callback_body

PASSWORD = "correct horse battery"


@pytest.mark.parametrize("path", ["/", "/overview", "/models"])
def test_a_page_offers_the_intervals_of_its_own_dashboard(database_url: str, path: str) -> None:
    with Accounts(Database(database_url)) as accounts:
        accounts.users.ensure("reader", PASSWORD)
    offered = []
    for intervals in ((Interval.H4, Interval.D1), (Interval.H1,)):
        app = create_app(Settings(database_url=database_url, secret_key="contract-test", intervals=intervals))
        reader = DashboardClient(app.server.test_client())
        reader.log_in("reader", PASSWORD)
        reader.get("/")
        page = reader.send_callback(callback_body(app, "page.children", {"shown-path.data": path}))
        offered.append([interval for interval in Interval if f'"value":"{interval}"' in page.text])
    assert offered == [[Interval.H4, Interval.D1], [Interval.H1]]
