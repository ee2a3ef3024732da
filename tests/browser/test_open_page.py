"""Pages that stay open: a model that arrives, a service that does not answer, ages, the clock, and other admins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from make_us_rich.accounts import ADMIN
from make_us_rich.client import Client, ServiceUnavailable
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import Forecast
from tests.support.browser import ARTIFACTS, PASSWORD, fire_timer, log_in
from tests.support.dashboard_servers import DashboardServers, dashboard_servers

pytestmark = pytest.mark.timeout(300)

SLOW_MS = 30_000
_PLOT = "document.querySelector('#chart .js-plotly-plot')"
# Where the median of the n-th close is on the screen.
_PLACE = f"""(index) => {{
    const {{xaxis, yaxis}} = {_PLOT}._fullLayout, box = {_PLOT}.getBoundingClientRect();
    const {{x, y}} = {_PLOT}._fullData.find(({{name}}) => name === "median");
    return [box.left + xaxis._offset + xaxis.d2p(x[index]), box.top + yaxis._offset + yaxis.d2p(y[index])];
}}"""
# In Berlin the clock went back at 01:00 UTC: the hour from 2:00 to 3:00 came twice.
_CLOCK_CHANGE = """() => {
    const times = [23, 24, 25, 26, 27].map((hour) => new Date(Date.UTC(2026, 9, 24, hour)).toISOString().slice(0, -1));
    const text = `{${Date.UTC(2026, 9, 25, 0)}} {${Date.UTC(2026, 9, 25, 1)}}`;
    const layout = {xaxis: {range: [times[0], times[4]], title: {}}, shapes: []};
    const drawn = window.chartInLocalTime({
        figure: {data: [{x: times, hovertext: [text]}], layout}, marks: [], next_close_ms: Date.UTC(2026, 9, 25, 3),
    }).figure;
    return [drawn.data[0].x, drawn.layout.xaxis.title.text, drawn.data[0].hovertext[0]];
}"""


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, ["btc_usdt"]) as servers:
        servers.accounts.users.create("root", PASSWORD, role=ADMIN)
        yield servers


def _by_the_shipped_model(forecast: Forecast) -> Forecast:
    """Return the forecast as a model makes it that has the same version, but another name."""
    model = forecast.model.model_copy(update={"name": "foundation_1h", "shipped": True})
    return forecast.model_copy(update={"model": model, "flags": forecast.flags.model_copy(update={"foundation": True})})


def test_an_open_page_follows_the_model_keeps_the_last_answer_and_counts_ages(
    page: Page, dashboard: DashboardServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Client.forecast

    def shipped(client: Client, *given: Any, **named: Any) -> Forecast:
        return _by_the_shipped_model(answer(client, *given, **named))

    def slow(*_: Any, **__: Any) -> Forecast:
        raise ServiceUnavailable("the forecast service took more than 5 s")

    monkeypatch.setattr(Client, "forecast", shipped)
    page.clock.install()
    log_in(page, dashboard.url, "root")
    notices, outage, section = page.locator("#forecast"), page.locator("#outage"), page.locator("#chart-section")
    expect(notices).to_contain_text("Shipped model.", timeout=SLOW_MS)
    monkeypatch.setattr(Client, "forecast", answer)
    fire_timer(page, "refresh")
    expect(notices).not_to_contain_text("Shipped model.", timeout=SLOW_MS)
    expect(notices).to_contain_text("Simulated market.")

    monkeypatch.setattr(Client, "forecast", slow)
    fire_timer(page, "refresh")
    expect(outage).to_contain_text(re.compile(r"No new answer since \d\d \w+ \d\d:\d\d .*: this is the last one\."))
    expect(page.locator("#chart .legendtext").first).to_be_visible()
    expect(page.locator("#reading")).to_contain_text("with 80 % probability")
    expect(section).to_have_css("opacity", "0.55")
    expect(notices).to_contain_text("Simulated market.")
    page.screenshot(path=ARTIFACTS / "last-answer.png", full_page=True)
    monkeypatch.setattr(Client, "forecast", answer)
    fire_timer(page, "refresh")
    expect(outage).to_be_empty()
    expect(section).to_have_css("opacity", "1")

    model_age = page.locator("#model-badges [data-age-hours]")
    hours = float(model_age.get_attribute("data-age-hours") or "nan")
    page.clock.fast_forward("10:00:00")
    page.clock.fast_forward("05:00:00")
    expect(model_age).to_have_text(f"{hours + 15:.0f} h")


def test_the_overview_keeps_the_last_answer_too(
    page: Page, dashboard: DashboardServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: Any, **__: Any) -> Any:
        raise ServiceUnavailable("the forecast service took more than 5 s")

    log_in(page, dashboard.url, "root", "/overview")
    table, notice = page.locator("#overview-table"), page.locator("#overview-notice")
    expect(table.locator("tbody tr")).to_have_count(1, timeout=SLOW_MS)
    with monkeypatch.context() as patch:
        patch.setattr(Client, "forecasts", slow)
        fire_timer(page, "overview-refresh")
        expect(notice).to_contain_text("No new answer since")
        expect(table).to_have_class("outdated")
        expect(table.locator("tbody tr")).to_have_count(1)
    fire_timer(page, "overview-refresh")
    expect(notice).to_contain_text("1 of 1 pairs are up to date.")
    expect(table).not_to_have_class("outdated")


def test_the_chart_has_one_clock_and_readings_name_their_zone(browser: Browser, dashboard: DashboardServers) -> None:
    context = browser.new_context(timezone_id="Europe/Berlin")
    page = context.new_page()
    log_in(page, dashboard.url, "root")
    expect(page.locator("#chart .legendtext").first).to_be_visible(timeout=SLOW_MS)
    reading = page.locator("#reading time").inner_text()
    page.locator("#compare").click()
    page.get_by_role("option", name="EWMA volatility").click()
    expect(page.locator("#chart .legendtext", has_text="EWMA, 80 %")).to_be_visible(timeout=SLOW_MS)
    page.keyboard.press("Escape")
    said = page.locator("#chart .hoverlayer")
    for horizon in (1, 8):
        page.mouse.move(*page.evaluate(_PLACE, horizon), steps=3)
        expect(said).to_have_text(
            re.compile(rf"^{horizon} h ahead, .*:80 % between [\d.,]+ and [\d.,]+,median [\d.,]+EWMA: 80 % between")
        )
    expect(said).to_contain_text(f"8 h ahead, {reading}:")
    page.screenshot(path=ARTIFACTS / "reading.png")

    times, zone, text = page.evaluate(_CLOCK_CHANGE)
    assert [time[8:16] for time in times] == ["25T00:00", "25T01:00", "25T02:00", "25T03:00", "25T04:00"]
    assert zone == "CET, without the clock change"
    assert text == "25 Oct 02:00 CEST 25 Oct 02:00 CET"
    context.close()


def test_a_pair_that_another_admin_added_or_parked_appears(page: Page, dashboard: DashboardServers) -> None:
    database = Database.from_settings(dashboard.settings)
    log_in(page, dashboard.url, "root", "/admin")
    page.get_by_role("tab", name="Pairs").click()
    expect(page.get_by_role("button", name="actions for btc_usdt")).to_be_visible(timeout=SLOW_MS)

    pairs_table.put(database, "sol_usdt", plan="pooled")
    fire_timer(page, "admin-pairs-refresh")
    actions = page.get_by_role("button", name="actions for sol_usdt")
    expect(actions).to_be_visible(timeout=SLOW_MS)
    pairs_table.park(database, "sol_usdt", "halted by the exchange")
    page.get_by_role("tab", name="Audit log").click()
    page.get_by_role("tab", name="Pairs").click()
    expect(page.get_by_role("gridcell", name="halted by the exchange")).to_be_visible(timeout=SLOW_MS)

    dashboard.accounts.audit.write("someone", "park pair", "sol_usdt", "halted by the exchange")
    page.get_by_role("tab", name="Audit log").click()
    expect(page.get_by_role("gridcell", name="someone")).to_be_visible(timeout=SLOW_MS)
    database.close()
