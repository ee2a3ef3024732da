"""The overview in a real browser: bars on one axis, words for skill, order, filter, favourites, cards on a phone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from dash_app.components.formatting import percent, price
from make_us_rich.client import Client
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.documents import Forecast
from tests.support.browser import ARTIFACTS, PASSWORD, PHONE, axe_violations, horizontal_overflow_px, log_in
from tests.support.dashboard_servers import DashboardServers, dashboard_servers

pytestmark = pytest.mark.timeout(300)

SLOW_MS = 30_000
PAIRS, OLD, UNSCORED = ("btc_usdt", "chz_usdt", "eth_usdt", "ltc_usdt"), "ltc_usdt", "chz_usdt"
WINDOWS: tuple[ViewportSize, ...] = ({"width": 1440, "height": 900}, {"width": 820, "height": 1180}, PHONE)
# The left and right end of a shape as fractions of the bar, whose axis reaches from 0 to 1.
_ENDS = """(shape) => {
    const bar = shape.closest("svg").getBoundingClientRect(), {left, right} = shape.getBoundingClientRect();
    return [(left - bar.left) / bar.width, (right - bar.left) / bar.width];
}"""
# Shortens the axis, takes the forecast of the last pair away, and makes the texts of the others as long as they get.
_WILD = """() => {
    const {data} = window.dash_component_api.getLayout("overview-data").props;
    const notes = ["shipped model, trained up to 8 Oct 2022", "drift in the last 7 d: coverage is 61 %, not 80 %"];
    const skills_text = "1 h +12.3 %, 8 h +10.1 %, 24 h +9.9 %";
    const long = (row) => ({...row, label: "1000SHIB / USDT", last_close_text: "0.0000123457", notes, skills_text});
    const horizons = data.horizons.map((each) => ({...each, reach: 0.001}));
    const [{pair, label, href}, ...others] = [...data.rows].reverse();
    const rows = [{pair, label, href, message: "no champion yet"}, ...others.map(long)];
    window.dash_clientside.set_props("overview-data", {data: {...data, rows, horizons}});
}"""

_BLOCKED = """for (const kind of ["localStorage", "sessionStorage"]) Object.defineProperty(window, kind, {
    get() { throw new DOMException("The operation is insecure.", "SecurityError"); },
});"""
_FULL = 'Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };'


def _left(texts: dict[str, str]) -> str:
    """Return a script that leaves these texts in the browser's storage."""
    return f"for (const [name, text] of {json.dumps(list(texts.items()))}) localStorage.setItem(name, text);"


_CONTROLS = {  # the default of each remembered control, and a value of a version that offered others
    "pair": (None, 5),
    "interval": ("1h", "7m"),
    "horizon": (8, 99),
    "span": ("48", "72"),
    "overview-interval": ("1h", "7m"),
    "overview-horizon": ("8", "7"),
}
_KEY = "_dash_persistence.{}.value.true"
_STORAGES = {
    "blocked": _BLOCKED,
    "full": _FULL,
    "unreadable": _left(
        {"mur-overview-order": "pair"}
        | {_KEY.format(name): text for name, text in zip(_CONTROLS, ["btc", "{", '{"a":1}'] * 2, strict=True)}
    ),
    "of another version": _left(
        {"mur-overview-order": '"last"'}
        | {_KEY.format(name): json.dumps([other, first]) for name, (first, other) in _CONTROLS.items()}
    ),
}


@pytest.fixture(scope="module")
def started_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def dashboard(folder: Path, started_ms: int) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, PAIRS, old_models=[OLD], unscored=[UNSCORED]) as servers:
        for name in ("reader", "trader"):
            servers.accounts.users.create(name, PASSWORD)
        yield servers


def _open(page: Page, dashboard: DashboardServers, name: str = "reader") -> Locator:
    log_in(page, dashboard.url, name, "/overview")
    expect(page.locator("#overview-table tbody tr")).to_have_count(len(PAIRS), timeout=SLOW_MS)
    return page.locator("#overview-table")


def _forecasts(dashboard: DashboardServers) -> dict[str, Forecast]:
    with Client(dashboard.settings.api_url, dashboard.settings.dashboard_token.get_secret_value()) as client:
        return {pair: client.forecast(pair) for pair in PAIRS}


def _row(table: Locator, pair: str) -> Locator:
    return table.locator(f'[data-pair="{pair}"]')


def _change(forecast: Forecast, horizon: int, quantile: str) -> float:
    return forecast.at(horizon).quantiles[quantile] / forecast.last_close - 1


def test_a_row_has_the_band_on_one_axis_the_volatility_and_the_skill_in_words(
    page: Page, dashboard: DashboardServers, started_ms: int
) -> None:
    forecasts, table = _forecasts(dashboard), _open(page, dashboard)
    bitcoin, old = _row(table, "btc_usdt"), _row(table, OLD)
    for horizon, reach in ((24, 0.06), (8, 0.03), (1, 0.015)):  # 1 % times the root of the horizon, in round numbers
        page.get_by_role("radiogroup", name="horizon of the range").get_by_text(f"{horizon} h", exact=True).click()
        heading = page.get_by_role("columnheader").filter(has_text=f"80 % range in {horizon} h")
        expect(heading.locator(".axis")).to_have_text(f"−{reach * 100:g} %0+{reach * 100:g} %")
        ends = [_change(forecasts["btc_usdt"], horizon, name) for name in ("q10", "q90")]
        low, high = (percent(end, signed=True) for end in ends)
        expect(bitcoin.locator(".band")).to_contain_text(f"{low} to {high}")
        shown = bitcoin.locator(".band .wide").evaluate(_ENDS)
        assert shown == pytest.approx([0.5 + end / reach / 2 for end in ends], abs=0.01)
        volatility = percent(forecasts["btc_usdt"].at(horizon).volatility, decimals=1)
        expect(bitcoin.locator(f'[data-label="Volatility {horizon} h"]')).to_have_text(volatility)
        move = percent(forecasts["btc_usdt"].at(horizon).expected_move)
        expect(bitcoin.locator(f'[data-label="Expected move {horizon} h"]')).to_have_text(move)
    page.reload()
    expect(table.get_by_role("button", name="80 % range in 1 h")).to_be_visible(timeout=SLOW_MS)  # remembered
    expect(old.locator(".band .wide")).to_have_count(1)
    page.get_by_role("radiogroup", name="horizon of the range").get_by_text("8 h", exact=True).click()

    expect(page.locator("#overview-legend")).to_contain_text("Model age")
    expect(bitcoin.locator(".skill")).to_have_text("better than naive by 7.0 % ± 1.0 %the next close alone")
    expect(_row(table, UNSCORED).locator(".skill")).to_have_text("no score yet")
    expect(_row(table, UNSCORED).locator(".coverage")).to_have_text("no score yet")
    expect(old.locator(".band")).to_have_text("This model forecasts the next close alone.")
    expect(old.locator('[data-label="Volatility 24 h"]')).to_have_text("n/a")
    expect(table.locator(".beyond")).to_have_count(0)
    assert len((bitcoin.locator(".past").get_attribute("points") or "").split()) > 20  # the closes of a day
    # none is stored but that of each hour that ended since the service started
    hours = time.time_ns() // 1_000_000 // HOUR_MS - started_ms // HOUR_MS
    expect(old.locator(".past")).to_have_attribute("points", re.compile(rf"^(\S+ ){{{hours}}}50,50$"))

    page.evaluate(_WILD)
    expect(bitcoin.locator(".beyond")).to_have_count(2)  # both ends are beyond the axis
    expect(bitcoin.locator(".band .wide")).to_have_attribute("width", "200")
    expect(old).to_have_text("☆LTC / USDTno champion yet")
    expect(bitcoin.locator(".band")).to_contain_text("shipped model, trained up to 8 Oct 2022")
    expect(bitcoin.locator(".skill .note")).to_have_text("1 h +12.3 %, 8 h +10.1 %, 24 h +9.9 %")
    for width in (1180, 360):  # the narrowest table, and a small phone
        page.set_viewport_size({"width": width, "height": 800})
        assert horizontal_overflow_px(page) <= 0


def test_the_order_the_filter_and_favourites_are_kept_and_work_by_keyboard(
    page: Page, dashboard: DashboardServers
) -> None:
    forecasts, table = _forecasts(dashboard), _open(page, dashboard)
    links = table.get_by_role("link")
    names = {pair: pair.replace("_", " / ").upper() for pair in PAIRS}
    expect(links).to_have_text(list(names.values()))

    by_price = sorted(PAIRS, key=lambda pair: -forecasts[pair].last_close)
    page.get_by_role("button", name="Last close").focus()
    page.keyboard.press("Enter")
    expect(links).to_have_text([names[pair] for pair in by_price])
    expect(page.get_by_role("columnheader", name="Last close")).to_have_attribute("aria-sort", "descending")
    page.keyboard.press("Enter")  # the focus stays
    expect(links).to_have_text([names[pair] for pair in reversed(by_price)])
    for turn in range(2):  # a pair without a score is last in both orders
        page.get_by_role("button", name="Skill").click()
        expect(page.get_by_role("columnheader", name="Skill")).to_have_attribute(
            "aria-sort", ("descending", "ascending")[turn]
        )
        expect(links.last).to_have_text(names[UNSCORED])

    star = page.get_by_role("button", name="favourite CHZ / USDT")
    star.focus()
    page.keyboard.press("Enter")
    expect(star).to_have_attribute("aria-pressed", "true")
    expect(star).to_be_focused()
    expect(links.first).to_have_text(names["chz_usdt"])
    page.reload()
    expect(links.first).to_have_text(names["chz_usdt"], timeout=SLOW_MS)
    expect(page.get_by_role("columnheader", name="Skill")).to_have_attribute("aria-sort", "ascending")

    page.fill("#overview-search", "eth/usdt")
    expect(links).to_have_text([names["eth_usdt"]])
    expect(page.get_by_text("1 of 4 pairs match “eth/usdt”.")).to_be_visible()
    page.fill("#overview-search", "<b>")
    expect(page.get_by_text("0 of 4 pairs match “<b>”.")).to_be_visible()

    page.get_by_role("button", name="Log out").first.click()
    table = _open(page, dashboard, "trader")
    expect(table.locator('[aria-pressed="true"]')).to_have_count(0)  # another account has its own favourites


def test_narrow_windows_show_cards_and_every_width_is_accessible(browser: Browser, dashboard: DashboardServers) -> None:
    context = browser.new_context(viewport=WINDOWS[0])
    page = context.new_page()
    table = _open(page, dashboard)
    for window in WINDOWS:
        page.set_viewport_size(window)
        is_wide = window["width"] > 1100
        expect(table.locator("thead")).to_be_visible(visible=is_wide)
        expect(table.get_by_label("Sort by")).to_be_visible(visible=not is_wide)
        assert horizontal_overflow_px(page) <= 0
        assert axe_violations(page) == []
        page.screenshot(path=ARTIFACTS / f"overview-{window['width']}.png", full_page=True)

    page.get_by_role("button", name="favourite ETH / USDT").click()
    expect(table.get_by_role("link").first).to_have_text("ETH / USDT")
    table.get_by_label("Sort by").select_option("Last close")
    table.get_by_role("button", name="reverse the order").click()
    card = _row(table, UNSCORED)
    expect(table.get_by_role("link").nth(1)).to_have_text("CHZ / USDT")  # the cheapest after the favourite
    expect(card).to_contain_text(price(_forecasts(dashboard)[UNSCORED].last_close))
    box = card.bounding_box()
    assert box is not None
    assert box["width"] > 340  # one card a row
    card.get_by_role("link").click()
    expect(page).to_have_url(f"{dashboard.url}/?pair={UNSCORED}&interval=1h")
    expect(page.locator("#pair")).to_have_value("CHZ / USDT", timeout=SLOW_MS)
    context.close()


@pytest.mark.parametrize("storage", _STORAGES)
def test_the_pages_work_without_the_browsers_storage_and_drop_what_they_cannot_use(
    page: Page, dashboard: DashboardServers, storage: str
) -> None:
    page.add_init_script(_STORAGES[storage])
    table = _open(page, dashboard, "trader")
    star = page.get_by_role("button", name="favourite ETH / USDT")
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true")
    expect(table.get_by_role("link").first).to_have_text("ETH / USDT")
    expect(page.get_by_role("columnheader", name="80 % range in 8 h")).to_be_visible()

    page.get_by_role("navigation", name="pages", exact=True).get_by_role("link", name="Forecasts").click()
    expect(page.locator("#chart .legendtext").first).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("#reading")).to_contain_text("8 h ahead", timeout=SLOW_MS)
    expect(page.locator("#connection")).to_have_count(0)
