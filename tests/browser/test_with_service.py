"""The pages in a real browser, with a real Postgres, registry and forecast service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from make_us_rich.accounts import ADMIN
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.database import alerts as alerts_table
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import scores
from make_us_rich.database.pool import Database
from make_us_rich.documents import Score
from make_us_rich.registry.client import CHAMPION, Registry
from tests.support.browser import (
    ARTIFACTS,
    PASSWORD,
    PHONE,
    axe_violations,
    fire_timer,
    horizontal_overflow_px,
    log_in,
    register,
)
from tests.support.dashboard_servers import (
    DashboardServers,
    dashboard_servers,
    register_model_versions,
    register_undecided_version,
)
from tests.support.page_pictures import PAGES
from tests.support.registry import champion_of
from tests.support.servers import MLFLOW_LOGIN

pytestmark = pytest.mark.timeout(300)

PAIRS = ("btc_usdt", "chz_usdt", "eth_usdt")
MENU = {
    "forecasts": "Forecasts",
    "overview": "Overview",
    "models": "Models",
    "api": "API",
    "admin": "Admin",
    "account": "Account",
}
HTML_AND_SQL = "<img src=x onerror=alert(1)>'; DROP TABLE users;--"
SLOW_MS = 30_000


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, PAIRS, registry=True) as servers:
        register_model_versions(servers.settings.mlflow_url, "btc_usdt_1h")
        servers.accounts.users.create("root", PASSWORD, role=ADMIN)
        yield servers


def _wait_for_chart(page: Page) -> None:
    expect(page.get_by_text("with 80 % probability")).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("#chart .legendtext").first).to_be_visible(timeout=SLOW_MS)


def test_two_users_at_once_see_only_their_own_tokens(browser: Browser, dashboard: DashboardServers) -> None:
    contexts = [browser.new_context() for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    for number, page in enumerate(pages):
        register(page, dashboard.url, f"somebody {number}")
    for number, page in enumerate(pages):
        page.click("nav >> text=API")
        page.fill("#token-name", f"token of {number}")
        page.click("#create-token")
    for number, page in enumerate(pages):
        expect(page.get_by_role("cell", name=f"token of {number}", exact=True)).to_be_visible()
        page.reload()
        expect(page.get_by_role("cell", name=f"token of {number}", exact=True)).to_be_visible()
        expect(page.get_by_role("cell", name=f"token of {1 - number}", exact=True)).to_have_count(0)
    for context in contexts:
        context.close()


def test_an_outage_shows_a_notice_and_recovers_without_a_reload(page: Page, dashboard: DashboardServers) -> None:
    log_in(page, dashboard.url, "root")
    _wait_for_chart(page)
    dashboard.stop_service()
    try:
        page.click("#csv")
        expect(page.get_by_text("Nothing was downloaded")).to_be_visible(timeout=SLOW_MS)
        page.reload()
        expect(page.get_by_text("Forecast service unavailable")).to_be_visible(timeout=SLOW_MS)
    finally:
        dashboard.start_service()
    fire_timer(page, "refresh")
    _wait_for_chart(page)  # without a reload


def test_pages_show_the_scores_of_the_market_that_is_served(page: Page, dashboard: DashboardServers) -> None:
    database = Database.from_settings(dashboard.settings)
    for market, skill, hour in (("simulated", 0.05, 1), ("binance", -0.4, 2)):
        verdict = Score(
            n=168,
            skill_vs_naive=skill,
            t_vs_naive=skill * 10,
            coverage_80=0.8,
            shift={},
            drifted=skill < 0,
            reason=f"of {market}",
        )
        scores.save(
            database,
            verdict,
            market=market,
            pair=BITCOIN,
            interval=Interval.H1,
            as_of_ms=Interval.H1.last_close_ms(time.time_ns() // 1_000_000) - hour * HOUR_MS,
        )

    log_in(page, dashboard.url, "root", "/?pair=btc_usdt")
    _wait_for_chart(page)

    expect(page.get_by_text("Last 7 d: +5.0 % vs naive")).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_text("The last 7 d were worse")).to_have_count(0)
    page.goto(f"{dashboard.url}/overview")
    expect(page.locator('#overview-table [data-pair="btc_usdt"] .age')).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_text("of binance")).to_have_count(0)


def test_an_admin_rolls_back_to_the_previous_champion(page: Page, dashboard: DashboardServers) -> None:
    log_in(page, dashboard.url, "root", "/models")
    expect(page.get_by_text("promoted: better by 1.2 %").first).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_role("link", name="Airflow run")).to_have_attribute(
        "href", f"{dashboard.settings.airflow_url}/dags/train_pairs/runs/manual__2"
    )
    expect(page.get_by_text("validation loss")).to_be_visible(timeout=SLOW_MS)
    first = page.locator("#models-grid .ag-center-cols-container .ag-row[row-index='0']")
    expect(first.locator("[col-id=alias]")).to_have_text("champion")
    legend = page.locator("#models-history .legendtext")
    expect(legend).to_have_text(["Promoted", "Kept the champion"], timeout=SLOW_MS)
    expect(page.get_by_role("row", name="Forecast error (pinball loss), share of the price")).to_contain_text("0.123 %")
    page.screenshot(path=ARTIFACTS / "models.png", full_page=True)
    page.click("#rollback")
    page.get_by_role("button", name="Cancel").click()
    page.click("#rollback")
    expect(page.get_by_text("The previous champion serves this pair from now on.")).to_be_visible()
    page.screenshot(path=ARTIFACTS / "confirm-rollback.png")
    held: list[Route] = []  # as long as a service takes to load the model
    holding = True
    page.route("**/_dash-update-component**", lambda route: held.append(route) if holding else route.continue_())
    page.get_by_role("button", name="Roll back", exact=True).click()
    expect(page.get_by_text("Rolling back:")).to_be_visible()
    holding = False
    for request in held:
        request.continue_()
    expect(page.get_by_text("Version 1 is the champion, by root")).to_be_visible(timeout=SLOW_MS)
    expect(legend).to_have_text(["Promoted", "Kept the champion", "Rolled back"])

    with Registry(dashboard.settings) as registry:
        assert champion_of(registry, "btc_usdt_1h").version == 1
        registry.set_alias("btc_usdt_1h", CHAMPION, 2)
    assert dashboard.accounts.audit.entries(1)[0].action == "roll back model"


def test_the_champion_is_selected_and_a_backfill_is_not_pending(page: Page, dashboard: DashboardServers) -> None:
    runs = {"eth_usdt_1h": "train_pairs/runs/backfill__2026", "chz_usdt_1h": "train_pairs/runs/manual__9"}
    for name, run in runs.items():
        register_model_versions(dashboard.settings.mlflow_url, name)
        register_undecided_version(dashboard.settings.mlflow_url, name, run)
    log_in(page, dashboard.url, "root", "/models?pair=eth_usdt")
    expect(page.locator("#models-pair")).to_have_value("ETH / USDT", timeout=SLOW_MS)
    expect(page.get_by_role("heading", name="Version 2")).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_role("gridcell", name="none: a backfill promotes nothing")).to_be_visible()
    page.goto(f"{dashboard.url}/models?pair=chz_usdt")
    expect(page.get_by_role("gridcell", name="pending: decided at the end of its training run")).to_be_visible(
        timeout=SLOW_MS
    )


def test_the_models_page_names_an_unknown_pair_shows_the_chosen_one_and_links_to_mlflow(
    browser: Browser, dashboard: DashboardServers
) -> None:
    user, password = MLFLOW_LOGIN
    context = browser.new_context(http_credentials={"username": user, "password": password})
    page = context.new_page()
    log_in(page, dashboard.url, "root", "/models?pair=foo_bar")
    expect(page.get_by_text("FOO / BAR is unknown")).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("#models-pair")).to_have_value("")

    page.locator("#models-pair").click()
    page.get_by_role("option", name="BTC / USDT").click()
    expect(page).to_have_url(f"{dashboard.url}/models?pair=btc_usdt")
    expect(page.get_by_role("link", name="MLflow run", exact=True)).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_text("FOO / BAR is unknown")).to_have_count(0)
    expect(page.get_by_role("heading", name="Version 2")).to_be_visible(timeout=SLOW_MS)
    page.locator("#models-grid").get_by_role("gridcell", name="1", exact=True).click()
    expect(page.get_by_role("heading", name="Version 1")).to_be_visible(timeout=SLOW_MS)

    address = page.get_by_role("link", name="All runs in MLflow").get_attribute("href", timeout=SLOW_MS)
    assert address is not None
    page.goto(address)
    expect(page.get_by_text("btc_usdt_1h run 3")).to_be_visible(timeout=60_000)  # MLflow opens on an empty page else
    page.screenshot(path=ARTIFACTS / "mlflow.png")
    context.close()


def test_an_admin_changes_accounts_plans_and_pairs(page: Page, dashboard: DashboardServers) -> None:
    dashboard.accounts.users.create("suspect", PASSWORD)
    pairs_table.put(Database.from_settings(dashboard.settings), "doge_usdt", plan="pooled")
    log_in(page, dashboard.url, "root", "/admin")
    _change_an_account_and_the_quota_of_a_plan(page, dashboard)
    page.get_by_role("tab", name="Pairs").click()
    _park_a_pair(page, dashboard)


def _change_an_account_and_the_quota_of_a_plan(page: Page, dashboard: DashboardServers) -> None:
    actions, dialog = page.get_by_role("button", name="actions for suspect"), page.get_by_role("dialog", name="suspect")
    said = page.locator("#admin-users-notice")

    actions.click(timeout=SLOW_MS)
    expect(page.locator("#admin-unlock")).to_be_hidden()
    dialog.locator("#admin-plan").click()
    page.get_by_role("option", name="trader").click()
    page.click("#admin-set-plan")
    expect(said).to_have_text("suspect has the plan trader now: 20,000 calls per month.", timeout=SLOW_MS)
    expect(page.get_by_role("gridcell", name="0 of 20,000")).to_be_visible()
    expect(dialog).to_have_count(0)
    actions.click()
    dialog.locator("#admin-role").click()
    page.get_by_role("option", name="admin", exact=True).click()
    page.click("#admin-set-role")
    expect(said).to_have_text("suspect is an admin now.", timeout=SLOW_MS)
    actions.click()
    page.click("#admin-link")
    expect(page.locator("#admin-password-link")).to_contain_text("/set-password/", timeout=SLOW_MS)
    expect(said).to_contain_text("The password link of suspect works once, within 24 hours")
    actions.click()
    page.screenshot(path=ARTIFACTS / "admin-users.png", full_page=True)
    page.click("#admin-lock")
    expect(said).to_have_text(
        "suspect is locked: its sessions have ended, and its tokens and log-ins are refused until an admin unlocks it.",
        timeout=SLOW_MS,
    )
    actions.click()
    expect(page.locator("#admin-unlock")).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("#admin-lock")).to_be_hidden()
    (suspect,) = [row for row in dashboard.accounts.admin.accounts() if row.name == "suspect"]
    assert (suspect.locked, suspect.plan, suspect.role) == (True, "trader", ADMIN)

    page.click("#admin-unlock")
    expect(said).to_have_text("suspect is unlocked: it can log in, and its tokens work again.", timeout=SLOW_MS)

    page.locator("#admin-quota-plan").click()
    page.get_by_role("option", name="trader").click()
    page.fill("#admin-quota", "30000")
    page.click("#admin-set-quota")
    expect(page.get_by_text("Plan trader now allows 30,000 calls per month.")).to_be_visible(timeout=SLOW_MS)
    assert {plan.name: plan.monthly_calls for plan in dashboard.accounts.admin.plans()}["trader"] == 30_000


def _park_a_pair(page: Page, dashboard: DashboardServers) -> None:
    actions = page.get_by_role("button", name="actions for doge_usdt")
    actions.click(timeout=SLOW_MS)
    dialog = page.get_by_role("dialog", name="doge_usdt")
    dialog.get_by_role("button", name="Train now").click()
    expect(dialog.get_by_text("Airflow")).to_be_visible(timeout=SLOW_MS)  # it does not run in this test
    dialog.get_by_role("button", name="Park").click()
    expect(dialog.get_by_text("Enter a reason")).to_be_visible(timeout=SLOW_MS)
    page.screenshot(path=ARTIFACTS / "admin-pairs.png", full_page=True)
    page.fill("#admin-park-reason", "too wild")
    page.press("#admin-park-reason", "Enter")
    expect(page.get_by_text("doge_usdt is parked")).to_be_visible(timeout=SLOW_MS)
    expect(dialog).to_have_count(0)
    actions.click()
    expect(dialog.get_by_role("button", name="Unpark")).to_be_visible(timeout=SLOW_MS)
    expect(dialog.get_by_role("button", name="Train now")).to_be_hidden()

    (doge,) = [
        item for item in pairs_table.tracked(Database.from_settings(dashboard.settings)) if item.pair == "doge_usdt"
    ]
    assert doge.parked_reason == "too wild"


def test_a_member_sees_models_without_admin_controls(page: Page, dashboard: DashboardServers) -> None:
    dashboard.accounts.users.create("onlooker", PASSWORD)
    log_in(page, dashboard.url, "onlooker", "/models")
    expect(page.get_by_text("refused: not better").first).to_be_visible(timeout=SLOW_MS)

    expect(page.locator("#rollback")).to_have_count(0)
    expect(page.locator("header").get_by_text("Admin")).to_have_count(0)


def test_html_and_sql_are_shown_as_text_on_every_page(page: Page, dashboard: DashboardServers) -> None:
    alerts: list[str] = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    register(page, dashboard.url, HTML_AND_SQL)
    page.locator("header a[href='/account']").click()
    expect(page.get_by_text(f"Logged in as {HTML_AND_SQL}")).to_be_visible(timeout=SLOW_MS)
    page.click("text=API")
    page.fill("#token-name", HTML_AND_SQL)
    page.click("#create-token")
    expect(page.get_by_role("cell", name=HTML_AND_SQL, exact=True)).to_be_visible(timeout=SLOW_MS)
    page.click("text=Log out")

    database_url = dashboard.settings.database_url.get_secret_value()
    pairs_table.put(Database(database_url), "sol_usdt", plan="pooled")
    pairs_table.park(Database(database_url), "sol_usdt", HTML_AND_SQL)
    dashboard.accounts.audit.write(HTML_AND_SQL, HTML_AND_SQL, HTML_AND_SQL, HTML_AND_SQL)
    alerts_table.record(Database(database_url), HTML_AND_SQL, HTML_AND_SQL, HTML_AND_SQL)
    log_in(page, dashboard.url, "root", "/admin")
    expect(page.get_by_role("gridcell", name=HTML_AND_SQL, exact=True)).to_be_visible(timeout=SLOW_MS)
    page.get_by_role("tab", name="Pairs").click()
    expect(page.get_by_text(HTML_AND_SQL)).to_be_visible(timeout=SLOW_MS)
    page.get_by_role("tab", name="Alerts").click()
    expect(page.get_by_role("gridcell", name=HTML_AND_SQL)).to_have_count(3, timeout=SLOW_MS)
    page.get_by_role("tab", name="Audit log").click()
    expect(page.get_by_role("gridcell", name=HTML_AND_SQL).first).to_be_visible(timeout=SLOW_MS)
    assert alerts == []


def test_every_page_fits_a_phone_and_is_accessible(browser: Browser, dashboard: DashboardServers) -> None:
    """The menu of a phone leads from each page to the next one."""
    context = browser.new_context(viewport=PHONE, has_touch=True)
    page = context.new_page()
    problems = {}
    for name in ("log-in", "register"):
        page.goto(dashboard.url + PAGES[name].path)
        expect(page.locator("h1")).to_be_visible(timeout=SLOW_MS)
        problems[name] = _problems_in_both_widths(page, name)
    log_in(page, dashboard.url, "root")
    for name, label in MENU.items():
        if name != "forecasts":
            page.get_by_label("menu of pages").click()
            page.locator("#phone-menu").get_by_text(label, exact=True).click()
        expect(page).to_have_url(dashboard.url + PAGES[name].path, timeout=SLOW_MS)
        expect(page.locator(PAGES[name].ready).first).to_be_attached(timeout=SLOW_MS)
        expect(page.locator("h1")).to_be_visible()
        problems[name] = _problems_in_both_widths(page, name)
    context.close()
    assert {name: found for name, found in problems.items() if found} == {}


def _problems_in_both_widths(page: Page, name: str) -> list[str]:
    """Return what is wrong with a page that is open on a phone; in a wide window axe looks at it."""
    page.wait_for_load_state("networkidle")
    problems = ["wider than a phone"] if horizontal_overflow_px(page) > 0 else []
    page.screenshot(path=ARTIFACTS / f"phone-{name}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 720})
    page.screenshot(path=ARTIFACTS / f"light-{name}.png", full_page=True)
    problems += axe_violations(page)
    page.set_viewport_size(PHONE)
    return problems


def test_the_first_page_is_sent_compressed_and_kept_by_the_browser(page: Page, dashboard: DashboardServers) -> None:
    dashboard.accounts.users.create("visitor", PASSWORD)
    received: list[int] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    log_in(page, dashboard.url, "visitor", "/?pair=btc_usdt")
    _wait_for_chart(page)
    page.wait_for_load_state("networkidle")
    first = sum(received)
    received.clear()
    page.reload()
    _wait_for_chart(page)
    page.wait_for_load_state("networkidle")

    assert 500_000 < first < 920_000  # 3.7 MB without compression; benchmarks/dashboard.py ends at the chart
    assert sum(received) < 200_000

    # the script of the tables comes with the first page that has one
    received.clear()
    page.get_by_role("navigation", name="pages", exact=True).get_by_role("link", name="Models").click()
    expect(page.locator("#models-grid .ag-row").first).to_be_visible(timeout=SLOW_MS)
    assert 400_000 < sum(received) < 650_000
    page_source = page.request.get(f"{dashboard.url}/?pair=btc_usdt")
    assert "content-encoding" not in page_source.headers  # it holds the CSRF token
