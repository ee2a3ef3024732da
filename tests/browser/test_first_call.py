"""The path of a stranger from the landing page to an answer of the API, timed, with its pictures for the tutorial."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.accounts import owner_of
from tests.support.browser import ARTIFACTS, PASSWORD, fire_timer
from tests.support.dashboard_servers import DashboardServers, dashboard_servers
from tests.support.pictures import renewing, save_strip
from tests.support.processes import PROJECT_ROOT

pytestmark = pytest.mark.timeout(300)

SLOW_MS = 30_000
MOST_SECONDS_TO_A_CALL = 120  # as docs/tutorial.md says


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, ("btc_usdt", "chz_usdt", "eth_usdt")) as servers:
        yield servers


def test_a_stranger_gets_from_the_landing_page_to_an_answer_of_the_api_to_the_quota_and_revokes_the_token(
    page: Page, dashboard: DashboardServers
) -> None:
    started = time.monotonic()
    page.set_viewport_size({"width": 1120, "height": 960})
    page.goto(dashboard.url)
    expect(page.get_by_role("img", name="BTC / USDT: last close").locator("visible=true")).to_be_visible()
    page.screenshot(path=ARTIFACTS / "newcomer-1-landing.png")
    page.get_by_role("region", name="Log in").get_by_role("link", name="Create account").click()
    page.get_by_label("Name").fill("trader")
    page.get_by_label("Password").fill(PASSWORD)
    page.screenshot(path=ARTIFACTS / "newcomer-2-account.png")
    page.get_by_role("button", name="Create account").click()
    expect(page.locator("#chart .legendtext").first).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_text("past 80 % band")).to_be_visible()
    page.screenshot(path=ARTIFACTS / "newcomer-3-forecasts.png", full_page=True)

    page.click("nav >> text=API")
    page.fill("#token-name", "laptop")
    page.click("#create-token")
    token = page.locator("#new-token-text").inner_text()
    curl = page.locator("#curl-example code").inner_text()
    python = page.locator("#python-example code").inner_text()
    page.screenshot(path=ARTIFACTS / "newcomer-4-token.png", full_page=True)
    assert token in curl
    assert token in python

    for command in (["bash", "-c", curl], [sys.executable, "-c", python]):
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        assert "q50" in printed
    fire_timer(page, "usage-refresh")
    expect(page.get_by_text("2 of 1,000 calls used this month")).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_role("row", name="laptop")).not_to_contain_text("never")
    page.screenshot(path=ARTIFACTS / "newcomer-5-two-calls-used.png", full_page=True)
    assert time.monotonic() - started < MOST_SECONDS_TO_A_CALL
    folder = PROJECT_ROOT / "docs" / "images" if renewing() else ARTIFACTS
    save_strip(sorted(ARTIFACTS.glob("newcomer-*.png")), folder / "first-call.jpg")
    assert (folder / "first-call.jpg").stat().st_size < 250_000

    owner = owner_of(dashboard.accounts, token)
    dashboard.accounts.quota.consume(owner, calls=998)
    api = f"{dashboard.settings.api_url}/v1/forecasts/btc_usdt"
    answer = httpx.get(api, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 429
    fire_timer(page, "usage-refresh")
    expect(page.get_by_text("Monthly quota used up")).to_be_visible(timeout=SLOW_MS)
    page.screenshot(path=ARTIFACTS / "quota.png", full_page=True)

    page.get_by_role("button", name="rotate the token laptop").click()
    expect(page.get_by_text("Rotate the token laptop?")).to_be_visible()
    page.screenshot(path=ARTIFACTS / "confirm-rotate.png")
    page.get_by_role("button", name="Rotate", exact=True).click()
    expect(page.locator("#new-token-text")).not_to_have_text(token)
    fresh = page.locator("#new-token-text").inner_text()
    expect(page.locator("#curl-example code")).to_contain_text(fresh)
    expect(page.locator("#python-example code")).not_to_contain_text(token)

    page.reload()
    revoke = page.get_by_role("button", name="revoke the token laptop")
    expect(revoke).to_be_visible(timeout=SLOW_MS)
    assert fresh not in page.content()  # it is shown once
    revoke.click()
    expect(page.get_by_text("Revoke the token laptop?")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    assert len(dashboard.accounts.tokens.of_user(owner.user_id)) == 1
    revoke.click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(page.get_by_text("No tokens yet")).to_be_visible()
    assert dashboard.accounts.tokens.of_user(owner.user_id) == []
    for example in ("#curl-example code", "#python-example code"):
        expect(page.locator(example)).to_contain_text("paste-your-token")
        expect(page.locator(example)).not_to_contain_text(fresh)
    page.click("text=Log out")
    expect(page).to_have_url(f"{dashboard.url}/login")
