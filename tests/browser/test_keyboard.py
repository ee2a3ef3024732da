"""A reader without a mouse: everything is reached by Tab and used by Enter, arrows and typing."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from make_us_rich.documents import HORIZONS
from tests.support.browser import PASSWORD
from tests.support.dashboard_servers import DashboardServers, dashboard_servers

pytestmark = pytest.mark.timeout(300)

SLOW_MS = 30_000
_MOST_TABS = 60
_FOCUSED = """() => {
    const element = document.activeElement;
    const label = element.getAttribute("aria-label") || element.labels?.[0]?.textContent || element.textContent;
    return (label || element.placeholder || element.tagName).trim();
}"""


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, ("btc_usdt", "eth_usdt")) as servers:
        servers.accounts.users.create("typist", PASSWORD)
        yield servers


def test_a_reader_without_a_mouse_gets_from_the_log_in_to_a_token(page: Page, dashboard: DashboardServers) -> None:
    page.goto(f"{dashboard.url}/login")
    _tab_to(page, "Name")
    page.keyboard.type("typist")
    _tab_to(page, "Password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("#chart .legendtext").first).to_be_visible(timeout=SLOW_MS)

    _tab_to(page, "pair")
    page.keyboard.type("eth")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{dashboard.url}/?pair=eth_usdt")
    expect(page.locator("#reading")).to_contain_text("ETH / USDT", timeout=SLOW_MS)

    _tab_to(page, "horizon")
    expect(page.locator("#reading")).to_contain_text("(8 h ahead)")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#reading")).to_contain_text("(10 h ahead)")
    page.keyboard.press("Home")
    expect(page.locator("#reading")).to_contain_text("(1 h ahead)")

    _tab_to(page, "Download CSV")
    with page.expect_download(timeout=SLOW_MS) as download:
        page.keyboard.press("Enter")
    with Path(download.value.path()).open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "forecast"]
    assert [int(row["horizon"]) for row in rows] == list(range(1, HORIZONS + 1))
    assert {row["pair"] for row in rows} == {"eth_usdt"}

    _tab_to(page, "API", backwards=True)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="API", exact=True)).to_be_visible(timeout=SLOW_MS)
    _tab_to(page, "name of the new token")
    page.keyboard.type("keyboard", delay=50)
    _tab_to(page, "Create token")
    page.keyboard.press("Enter")
    expect(page.locator("#new-token-text")).to_contain_text("mur_", timeout=SLOW_MS)
    expect(page.get_by_role("cell", name="keyboard", exact=True)).to_be_visible()


def _tab_to(page: Page, name: str, *, backwards: bool = False) -> None:
    """Press Tab until the element of this name has the focus."""
    passed: list[str] = []
    while len(passed) < _MOST_TABS:
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        passed.append(page.evaluate(_FOCUSED))
        if passed[-1] == name:
            return
    pytest.fail(f"Tab does not reach {name}; it passed {passed}")
