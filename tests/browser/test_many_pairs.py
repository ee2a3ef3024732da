"""The pages with three hundred pairs: they stay usable and fast."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import ascii_lowercase

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import ARTIFACTS, PASSWORD, log_in
from tests.support.dashboard_servers import DashboardServers, dashboard_servers

pytestmark = pytest.mark.timeout(400)

PAIRS = tuple(f"{''.join(letters)}_usdt" for letters in product(ascii_lowercase[:5], ascii_lowercase, "xyz"))[:300]


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, PAIRS, past_forecasts=False) as servers:  # invented: the exchange has none
        servers.accounts.users.create("collector", PASSWORD)
        yield servers


def test_three_hundred_pairs_are_listed_scrolled_and_filtered(page: Page, dashboard: DashboardServers) -> None:
    log_in(page, dashboard.url, "collector", "/overview")
    expect(page.get_by_text("300 of 300 pairs are up to date")).to_be_visible(timeout=60_000)
    rows = page.locator("#overview-table tbody tr")
    expect(rows).to_have_count(300)
    page.screenshot(path=ARTIFACTS / "three-hundred.png")

    began = time.monotonic()
    page.fill("#overview-search", "ezx")
    expect(page.get_by_text("0 of 300 pairs match “ezx”.")).to_be_visible()
    expect(rows).to_have_count(0)
    page.fill("#overview-search", "bay")
    expect(rows).to_have_count(1)
    page.fill("#overview-search", "")
    page.get_by_role("button", name="Pair").click()
    expect(rows.first).to_contain_text(PAIRS[-1].replace("_", " / ").upper())
    expect(rows.last).to_contain_text("AAX / USDT")
    assert time.monotonic() - began < 10  # generous, for a busy machine

    page.goto(dashboard.url)
    page.click("#pair")
    page.fill("#pair", "CBX")
    page.get_by_role("option", name="CBX / USDT").click()
    expect(page).to_have_url(f"{dashboard.url}/?pair=cbx_usdt")
    expect(page.get_by_text("with 80 % probability")).to_be_visible(timeout=30_000)
