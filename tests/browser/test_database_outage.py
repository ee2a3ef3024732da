"""Pages while Postgres is away and after it returned, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from make_us_rich.accounts import Accounts
from make_us_rich.database.pool import Database
from tests.support.browser import ARTIFACTS, PASSWORD, log_in
from tests.support.dashboard_servers import DashboardServers, dashboard_servers
from tests.support.servers import migrated_database
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

pytestmark = pytest.mark.timeout(300)

SLOW_MS = 30_000


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[tuple[TcpProxy, DashboardServers]]:
    """A dashboard, and the network between it and its database."""
    with ExitStack() as contexts:
        url = contexts.enter_context(migrated_database())
        network, through = contexts.enter_context(tcp_proxy(url))
        with Accounts(Database(url)) as accounts:
            accounts.users.create("reader", PASSWORD)
        yield network, contexts.enter_context(dashboard_servers(folder, environment={"MUR_DATABASE_URL": through}))


def test_the_error_page_loads_again_by_itself(page: Page, servers: tuple[TcpProxy, DashboardServers]) -> None:
    network, dashboard = servers
    log_in(page, dashboard.url, "reader", "/account")
    expect(page.get_by_role("heading", name="Account", exact=True)).to_be_visible(timeout=SLOW_MS)
    network.stop_answering()
    answer = page.goto(f"{dashboard.url}/account")
    assert answer is not None
    assert answer.status == 503
    expect(page.get_by_text("This page retries automatically.")).to_be_visible()
    page.screenshot(path=ARTIFACTS / "database-away.png")

    network.resume_answering()
    expect(page.get_by_role("heading", name="Account", exact=True)).to_be_visible(timeout=SLOW_MS)


def test_no_page_fails_after_the_database_returned(page: Page, servers: tuple[TcpProxy, DashboardServers]) -> None:
    network, dashboard = servers
    log_in(page, dashboard.url, "reader", "/account")
    expect(page.get_by_role("heading", name="Account", exact=True)).to_be_visible(timeout=SLOW_MS)
    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status))
    network.lose_connections()
    for path in ("/account", "/api-tokens", "/account"):
        page.goto(dashboard.url + path)
        expect(page.locator("h1")).to_be_visible(timeout=SLOW_MS)

    assert max(statuses) < 400
