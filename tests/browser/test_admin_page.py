"""The admin page in a real browser: health, pairs, the audit log; and forms that Enter sends."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from make_us_rich.accounts import ADMIN
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.database import alerts as alerts_table
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import scores, trainings
from make_us_rich.database.pool import Database
from make_us_rich.documents import Score
from tests.support.accounts import owner_of
from tests.support.browser import ARTIFACTS, PASSWORD, PHONE, axe_violations, horizontal_overflow_px, log_in
from tests.support.dashboard_servers import DashboardServers, dashboard_servers

pytestmark = pytest.mark.timeout(300)

WINDOWS = (PHONE, {"width": 1440, "height": 900})
SLOW_MS = 30_000
LONG_NAME = "the desk for derivatives of the second floor of the house"
REASON = "the exchange halted it for maintenance and has not said when it goes on; see its announcement of last week"
_CELLS = ".ag-cell:not([col-id=actions]), .ag-cell-value, .ag-header-cell-text"
# The texts of elements whose content is wider or higher than they are.
_CUT_OFF = """(selector) => [...document.querySelectorAll(selector)]
    .filter((cell) => cell.scrollWidth > cell.clientWidth + 1 || cell.scrollHeight > cell.clientHeight + 1)
    .map((cell) => cell.textContent)"""


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, ["btc_usdt"], {"MUR_INTERVALS": "1h,4h"}) as servers:
        servers.accounts.users.create("root", PASSWORD, role=ADMIN)
        yield servers


def _open_tab(page: Page, dashboard: DashboardServers, name: str) -> None:
    log_in(page, dashboard.url, "root", "/admin")
    page.get_by_role("tab", name=name).click()


def _listed(dashboard: DashboardServers) -> set[str]:
    return {item.pair for item in pairs_table.tracked(Database.from_settings(dashboard.settings))}


def test_the_tab_is_in_the_address_a_reload_shows_it_again_and_enter_sends_its_form(
    page: Page, dashboard: DashboardServers
) -> None:
    _open_tab(page, dashboard, "Audit log")
    expect(page).to_have_url(re.compile(r"/admin\?tab=Audit-log$"))
    page.reload()
    expect(page.get_by_role("tab", name="Audit log", selected=True)).to_be_visible()
    page.goto(f"{dashboard.url}/admin?tab=nonsense")
    expect(page.get_by_role("tab", name="Users", selected=True)).to_be_visible()
    page.locator("#admin-quota-plan").click()
    page.get_by_role("option", name="trader").click()
    page.fill("#admin-quota", "30000")
    page.press("#admin-quota", "Enter")
    expect(page.get_by_text("Plan trader now allows 30,000 calls per month.")).to_be_visible(timeout=SLOW_MS)


def test_only_a_traded_pair_is_added_and_a_pair_is_removed(page: Page, dashboard: DashboardServers) -> None:
    _open_tab(page, dashboard, "Pairs")
    page.get_by_role("button", name="Add a pair…").click()
    field = page.locator("#admin-new-pair")
    field.fill("foo_bar")
    field.press("Enter")
    expect(page.get_by_text("The exchange does not trade foo_bar.")).to_be_visible(timeout=SLOW_MS)
    assert _listed(dashboard) == {"btc_usdt"}

    field.fill("s")
    expect(page.get_by_role("option").first).to_have_text(re.compile("^s"))  # every pair of usdt has an s
    field.fill("sol")
    page.get_by_role("option", name="sol_usdt").click()
    page.screenshot(path=ARTIFACTS / "admin-add-pair.png", full_page=True)
    page.click("#admin-put-pair")
    expect(page.get_by_text("sol_usdt has the serving plan dedicated")).to_be_visible(timeout=SLOW_MS)
    actions = page.get_by_role("button", name="actions for sol_usdt")
    actions.click()
    page.click("#admin-remove")
    page.get_by_role("button", name="Cancel").click()
    page.click("#admin-remove")
    expect(page.get_by_text("sol_usdt: It is neither trained nor served")).to_be_visible()
    page.screenshot(path=ARTIFACTS / "admin-remove-pair.png", full_page=True)
    page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_text("sol_usdt is removed")).to_be_visible(timeout=SLOW_MS)
    assert _listed(dashboard) == {"btc_usdt"}
    assert dashboard.accounts.audit.entries(1)[0].action == "remove pair"


@pytest.mark.parametrize("window", WINDOWS, ids=["phone", "desktop"])
def test_nothing_in_a_table_is_cut_off(browser: Browser, dashboard: DashboardServers, window: dict[str, int]) -> None:
    database = Database.from_settings(dashboard.settings)
    name = f"{LONG_NAME} {window['width']}"
    _use_most_of_a_large_quota(dashboard, name)
    _train_and_drift(database)
    pairs_table.put(database, "chz_usdt", plan="pooled")
    pairs_table.park(database, "chz_usdt", REASON)
    dashboard.accounts.audit.write("someone with a long name", "park pair", "chz_usdt", REASON)
    context = browser.new_context(viewport=window)
    page = context.new_page()
    _open_tab(page, dashboard, "Users")
    expect(page.get_by_role("gridcell", name=name, exact=True)).to_be_visible(timeout=SLOW_MS)
    page.screenshot(path=ARTIFACTS / f"admin-users-{window['width']}.png", full_page=True)
    cut_off = page.evaluate(_CUT_OFF, _CELLS)
    page.locator("#admin-users .ag-center-cols-viewport").evaluate("columns => { columns.scrollLeft = 2000 }")
    page.wait_for_timeout(300)  # the grid draws the columns that came into view
    assert cut_off + page.evaluate(_CUT_OFF, _CELLS) == []
    assert horizontal_overflow_px(page) <= 0

    page.get_by_role("tab", name="Pairs").click()
    expect(page.get_by_text("announcement of last week")).to_be_visible(timeout=SLOW_MS)
    row = page.get_by_role("row", name="btc_usdt")
    expect(row.locator("[col-id=trained]")).to_have_text(
        "1h: 15 Nov 12:00 UTC; failed 15 Nov 13:00 UTC: the loss is not finite\n4h: never"
    )
    hour = r"\d\d \w{3} \d\d:00 UTC"
    expect(row.locator("[col-id=due]")).to_have_text(
        re.compile(f"^1h: {hour}, early, because its forecasts drift\\s+4h: {hour}, as a new pair$")
    )
    expect(page.get_by_role("row", name="chz_usdt").locator("[col-id=due]")).to_have_text("")
    page.screenshot(path=ARTIFACTS / f"admin-pairs-{window['width']}.png", full_page=True)
    assert page.evaluate(_CUT_OFF, _CELLS) == []
    page.get_by_role("tab", name="Audit log").click()
    expect(page.get_by_role("gridcell", name="park pair").first).to_be_visible(timeout=SLOW_MS)
    page.screenshot(path=ARTIFACTS / f"admin-audit-{window['width']}.png", full_page=True)
    assert page.evaluate(_CUT_OFF, _CELLS) == []
    assert horizontal_overflow_px(page) <= 0
    context.close()
    pairs_table.remove(database, "chz_usdt")


def _use_most_of_a_large_quota(dashboard: DashboardServers, name: str) -> None:
    accounts = dashboard.accounts
    user = accounts.users.create(name, PASSWORD)
    accounts.users.authenticate(name, PASSWORD)
    accounts.admin.set_plan(user.user_id, "trader", by="root")
    accounts.admin.set_monthly_calls("trader", 1_000_000_000, by="root")
    accounts.quota.consume(owner_of(accounts, accounts.tokens.create(user.user_id, "bot")), calls=987_654_321)


def test_alerts_are_listed_with_what_came_of_them(browser: Browser, dashboard: DashboardServers) -> None:
    database = Database.from_settings(dashboard.settings)
    context = browser.new_context()
    page = context.new_page()
    _open_tab(page, dashboard, "Alerts")
    expect(page.get_by_role("grid").get_by_text("No alert so far.")).to_be_visible(timeout=SLOW_MS)

    text = "**chz_usdt** [fetch](http://127.0.0.1:9/dags/train_pairs), 3 tries: PairNotTraded: <b>CHZUSDT</b> is halted"
    alerts_table.record(database, "train_pairs: chz_usdt failed", text, None)
    alerts_table.record(
        database, "train_pairs is late", "It may hang: see which task is running.", "Discord answered 500"
    )
    for window in WINDOWS:
        page.set_viewport_size(window)
        page.reload()
        page.get_by_role("tab", name="Alerts").click()
        expect(page.get_by_role("gridcell", name="train_pairs is late")).to_be_visible(timeout=SLOW_MS)
        page.screenshot(path=ARTIFACTS / f"admin-alerts-{window['width']}.png", full_page=True)
        assert page.evaluate(_CUT_OFF, _CELLS) == []
        assert horizontal_overflow_px(page) <= 0
    expect(page.get_by_role("gridcell", name="not posted: Discord answered 500")).to_be_visible()
    expect(page.get_by_text("chz_usdt fetch, 3 tries: PairNotTraded: <b>CHZUSDT</b> is halted")).to_be_visible()
    expect(page.get_by_role("link", name="fetch")).to_have_attribute("href", "http://127.0.0.1:9/dags/train_pairs")
    assert axe_violations(page) == []
    context.close()


def _train_and_drift(database: Database) -> None:
    """Record an hourly training of bitcoin long ago, one that failed an hour later, and drifting forecasts."""
    noon_ms = 1_700_049_600_000  # 2023-11-15 12:00 UTC
    bitcoin = {"market": "simulated", "interval": Interval.H1, "as_of_ms": noon_ms}
    trainings.record(database, {BITCOIN: None}, run_seconds={}, **bitcoin)
    an_hour_later = bitcoin | {"as_of_ms": noon_ms + 3_600_000}
    trainings.record(database, {BITCOIN: "the loss is not finite"}, run_seconds={}, **an_hour_later)
    now_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)  # an older score is forgotten after a week
    bad = Score(n=168, skill_vs_naive=-1, t_vs_naive=-9, coverage_80=0, shift={}, drifted=True, reason="worse")
    scores.save(database, bad, pair=BITCOIN, **bitcoin | {"as_of_ms": now_ms})


def test_health_is_checked_when_its_tab_is_opened_and_tabs_and_dialogs_are_accessible(
    page: Page, dashboard: DashboardServers
) -> None:
    _open_tab(page, dashboard, "Health")
    expect(page.get_by_role("cell", name="postgres", exact=True)).to_be_visible(timeout=60_000)
    for window in WINDOWS:
        page.set_viewport_size(window)
        page.screenshot(path=ARTIFACTS / f"admin-health-{window['width']}.png", full_page=True)
        assert page.evaluate(_CUT_OFF, ".mantine-Badge-label, #admin-health td, #admin-health th") == []
        assert horizontal_overflow_px(page) <= 0
    assert axe_violations(page) == []
    page.get_by_role("tab", name="Audit log").click()
    expect(page.get_by_role("gridcell", name="log in").first).to_be_visible(timeout=SLOW_MS)
    assert axe_violations(page) == []
    page.get_by_role("tab", name="Pairs").click()
    page.get_by_role("gridcell", name="btc_usdt").first.click(timeout=SLOW_MS)
    page.keyboard.press("End")  # the last cell of the row, with its button
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="btc_usdt")
    expect(dialog).to_be_visible()
    assert axe_violations(page) == []
    page.click("#admin-remove")
    expect(page.get_by_role("dialog", name="Remove the pair?")).to_be_visible()
    assert axe_violations(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_enter_sends_the_forms_of_a_member(page: Page, dashboard: DashboardServers) -> None:
    dashboard.accounts.users.create("keyboard user", PASSWORD)
    log_in(page, dashboard.url, "keyboard user", "/api-tokens")
    page.fill("#token-name", "laptop")
    page.press("#token-name", "Enter")
    expect(page.locator("#new-token-text")).to_be_visible(timeout=SLOW_MS)

    page.locator("header a[href='/account']").click()
    page.fill("#current-password", PASSWORD)
    page.fill("#new-password", "staples in a paper boat")
    page.press("#new-password", "Enter")
    expect(page.get_by_text("Password changed.")).to_be_visible(timeout=SLOW_MS)
