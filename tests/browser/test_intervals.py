"""The switch between candle intervals in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from dash_app.components.formatting import percent, price
from make_us_rich.client import Client
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.database import trainings
from make_us_rich.database.pool import Database
from make_us_rich.documents import Forecast
from tests.support.browser import ARTIFACTS, PASSWORD, PHONE, horizontal_overflow_px, log_in
from tests.support.dashboard_servers import DashboardServers, dashboard_servers, register_model_versions

pytestmark = pytest.mark.timeout(300)

SLOW_MS = 30_000
PAIRS = ("btc_usdt", "eth_usdt")


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, PAIRS, {"MUR_INTERVALS": "1h,4h"}, registry=True) as servers:
        register_model_versions(servers.settings.mlflow_url, "btc_usdt_4h")
        servers.accounts.users.create("reader", PASSWORD)
        yield servers


def _forecast(dashboard: DashboardServers, interval: str) -> Forecast:
    with Client(dashboard.settings.api_url, dashboard.settings.dashboard_token.get_secret_value()) as client:
        return client.forecast("btc_usdt", interval=interval)


def _expect_forecast(page: Page, forecast: Forecast, ahead: str) -> None:
    """Expect the sentence about the close eight candles ahead, where the slider stands."""
    quantiles = forecast.at(8).quantiles
    sentence = f"({ahead} ahead): {price(quantiles['q10'])} to {price(quantiles['q90'])} USDT with 80 % probability"
    expect(page.locator("#reading")).to_contain_text(sentence, timeout=SLOW_MS)


def test_the_switch_changes_forecast_and_download_is_remembered_and_back_undoes_it(
    page: Page, dashboard: DashboardServers
) -> None:
    log_in(page, dashboard.url, "reader", "/?pair=btc_usdt")
    _expect_forecast(page, _forecast(dashboard, "1h"), "8 h")
    page.locator("#interval").get_by_text("4h").click()
    _expect_forecast(page, _forecast(dashboard, "4h"), "32 h")
    expect(page.locator("#horizon")).to_contain_text("4 d")
    expect(page).to_have_url(f"{dashboard.url}/?pair=btc_usdt&interval=4h")
    page.screenshot(path=ARTIFACTS / "interval-4h.png", full_page=True)
    with page.expect_download() as download:
        page.click("#csv")
    rows = Path(download.value.path()).read_text().splitlines()
    assert {row.split(",")[2] for row in rows[1:]} == {"4h"}
    assert "_4h_" in download.value.suggested_filename

    page.goto(f"{dashboard.url}/?pair=btc_usdt")
    _expect_forecast(page, _forecast(dashboard, "4h"), "32 h")
    page.goto(f"{dashboard.url}/?pair=btc_usdt&interval=1h")
    _expect_forecast(page, _forecast(dashboard, "1h"), "8 h")

    reading = page.locator("#reading")
    expect(reading).to_contain_text("BTC / USDT", timeout=SLOW_MS)
    page.locator("#pair").click()
    page.get_by_role("option", name="ETH / USDT").click()
    expect(reading).to_contain_text("ETH / USDT", timeout=SLOW_MS)
    page.locator("#interval").get_by_text("4h").click()
    expect(page).to_have_url(f"{dashboard.url}/?pair=eth_usdt&interval=4h")
    page.go_back()
    expect(page.locator("#interval input:checked")).to_have_value("1h")
    page.go_back()
    expect(reading).to_contain_text("BTC / USDT", timeout=SLOW_MS)
    expect(page).to_have_url(f"{dashboard.url}/?pair=btc_usdt&interval=1h")
    page.go_forward()
    expect(reading).to_contain_text("ETH / USDT", timeout=SLOW_MS)


def test_the_overview_lists_the_forecasts_of_an_interval(page: Page, dashboard: DashboardServers) -> None:
    log_in(page, dashboard.url, "reader", "/overview")
    table = page.locator("#overview-table")
    expect(table.get_by_role("button", name="80 % range in 8 h")).to_be_visible(timeout=SLOW_MS)
    page.locator("#overview-interval").get_by_text("4h").click()
    expect(table.get_by_role("button", name="80 % range in 32 h")).to_be_visible(timeout=SLOW_MS)
    forecast = _forecast(dashboard, "4h")
    low = forecast.at(8).quantiles["q10"] / forecast.last_close - 1
    expect(table.locator('[data-pair="btc_usdt"] .band')).to_contain_text(percent(low, signed=True), timeout=SLOW_MS)
    table.get_by_role("link", name="BTC / USDT").click()
    _expect_forecast(page, _forecast(dashboard, "4h"), "32 h")


def test_the_models_of_an_interval_are_listed_and_when_it_is_trained_next(
    page: Page, dashboard: DashboardServers
) -> None:
    noon_ms = 1_700_049_600_000  # 2023-11-15 12:00 UTC
    with Database.from_settings(dashboard.settings) as database:
        trainings.record(
            database, {BITCOIN: None}, market="simulated", interval=Interval.H4, as_of_ms=noon_ms, run_seconds={}
        )
    log_in(page, dashboard.url, "reader", quote("/models?pair=btc_usdt&interval=4h", safe=""))
    rows = page.locator("#models-grid .ag-center-cols-container .ag-row")
    expect(rows).to_have_count(3, timeout=SLOW_MS)
    due = page.locator("#models-due")
    expect(due).to_contain_text("Last trained: as of 15 Nov 12:00 UTC. Next training: about ")
    expect(due).to_contain_text(":00 UTC, by its age.")
    page.screenshot(path=ARTIFACTS / "models-due.png", full_page=True)
    page.locator("#models-interval").get_by_text("1h").click()
    expect(rows).to_have_count(0, timeout=SLOW_MS)
    expect(due).to_contain_text("Last trained: never.")


def test_the_switch_fits_on_a_phone(browser: Browser, dashboard: DashboardServers) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True)
    page = context.new_page()
    log_in(page, dashboard.url, "reader")
    for name, switch in (
        ("Forecasts", "#interval"),
        ("Overview", "#overview-interval"),
        ("Models", "#models-interval"),
    ):
        if name != "Forecasts":
            page.get_by_label("menu of pages").click()
            page.locator("#phone-menu").get_by_text(name, exact=True).click()
        expect(page.locator(switch)).to_be_visible(timeout=SLOW_MS)
        expect(page.get_by_role("radiogroup", name="candle interval")).to_be_visible()
        assert horizontal_overflow_px(page) <= 0
        page.screenshot(path=ARTIFACTS / f"interval-phone-{name}.png", full_page=True)
    context.close()
