"""The dashboard in a real browser, with a real Postgres, while the forecast service is down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import APIResponse, Browser, Page, Route, expect

from make_us_rich.accounts import ADMIN
from make_us_rich.core.errors import WrongCredentials
from tests.support.browser import ARTIFACTS, PASSWORD, PHONE, axe_violations, horizontal_overflow_px, log_in, register
from tests.support.dashboard_servers import DashboardServers, dashboard_servers

_CALL_FOR_EVER = """() => {
    const options = {method: "POST", body: "{}"};
    const call = () => fetch("/_dash-update-component", options).finally(() => setTimeout(call, 50));
    call();
}"""


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder) as servers:
        yield servers


def test_log_in_returns_to_the_requested_page(page: Page, dashboard: DashboardServers) -> None:
    dashboard.accounts.users.create("returning", PASSWORD)
    page.goto(f"{dashboard.url}/api-tokens")
    expect(page).to_have_url(f"{dashboard.url}/login?next=/api-tokens")
    page.fill("input[name=name]", "returning")
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")

    expect(page).to_have_url(f"{dashboard.url}/api-tokens")
    expect(page.get_by_text("0 of 1,000 calls used this month")).to_be_visible()


def test_every_page_has_a_title_of_its_own(page: Page, dashboard: DashboardServers) -> None:
    dashboard.accounts.users.create("librarian", PASSWORD, role=ADMIN)
    titles = []
    for path in ("/", "/track-record", "/login", "/register"):
        page.goto(dashboard.url + path)
        titles.append(page.title())
    log_in(page, dashboard.url, "librarian", "/account")
    names = re.compile("^.+ · Make Us Rich$")  # the browser writes it
    expect(page).to_have_title(names, timeout=30_000)
    titles.append(page.title())
    for name in ("Forecasts", "Overview", "Models", "API", "Admin"):  # change the page without loading it again
        page.get_by_role("navigation", name="pages", exact=True).get_by_role("link", name=name).click()
        expect(page).not_to_have_title(titles[-1], timeout=30_000)
        expect(page).to_have_title(names)
        titles.append(page.title())
    page.goto(f"{dashboard.url}/no-such-page")
    expect(page).to_have_title(names, timeout=30_000)
    titles.append(page.title())
    assert "Overview · Make Us Rich" in titles

    assert all("Make Us Rich" in title for title in titles)
    assert len(set(titles)) == len(titles), titles


def test_registration_shows_that_the_service_is_down_and_a_phone_needs_no_sideways_scrolling(
    page: Page, dashboard: DashboardServers
) -> None:
    register(page, dashboard.url, "newcomer")

    expect(page.get_by_text("Forecast service unavailable")).to_be_visible(timeout=30_000)
    page.screenshot(path=ARTIFACTS / "service-down.png")
    page.set_viewport_size(PHONE)
    assert horizontal_overflow_px(page) <= 0


@pytest.mark.parametrize(
    ("name", "password", "complaint"),
    [
        ("shorty", "short", "10 characters or more"),
        ("taken-name", PASSWORD, "is taken"),
        ("taken-name-extra", "taken-name-extra1", "choose another"),
    ],
)
def test_a_refused_registration_shows_the_reason(
    page: Page, dashboard: DashboardServers, name: str, password: str, complaint: str
) -> None:
    dashboard.accounts.users.ensure("taken-name", PASSWORD)
    page.goto(f"{dashboard.url}/register")
    page.fill("input[name=name]", name)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")

    expect(page.get_by_role("alert")).to_contain_text(complaint)


def test_an_action_whose_answer_was_lost_is_not_repeated_and_one_of_an_ended_session_leads_to_the_log_in(
    page: Page, dashboard: DashboardServers
) -> None:
    sent: list[str] = []
    held: list[Route] = []

    def lose_the_answer(route: Route) -> None:
        if route.request.post_data_json["output"] == "earlier":
            held.append(route)
        elif "create-token.n_clicks" in str(route.request.post_data_json["changedPropIds"]):
            sent.append("create-token")
            route.fetch()
            route.abort()
        else:
            route.continue_()

    register(page, dashboard.url, "unlucky")
    page.click("text=API")
    expect(page.get_by_text("0 of 1,000 calls used this month")).to_be_visible()
    page.route("**/_dash-update-component**", lose_the_answer)
    earlier = "{method: 'POST', body: JSON.stringify({output: 'earlier', changedPropIds: []})}"
    page.evaluate(f"() => {{ window.earlier = fetch('/_dash-update-component', {earlier}) }}")
    page.fill("#token-name", "laptop")
    page.click("#create-token")
    expect(page.locator("#connection")).to_contain_text("Try again when it answers.")
    held[0].fulfill(json={})
    page.evaluate("() => window.earlier.then(() => null)")
    expect(page.locator("#connection")).to_contain_text("Try again when it answers.")
    page.evaluate("window.dispatchEvent(new Event('online'))")  # which ends the pause before a repetition
    page.fill("#token-name", "desktop")
    with page.expect_event("requestfailed"):
        page.click("#create-token")

    assert sent == ["create-token"] * 2
    user = dashboard.accounts.users.authenticate("unlucky", PASSWORD)
    assert {token.name for token in dashboard.accounts.tokens.of_user(user.user_id)} == {"laptop", "desktop"}

    page.unroute_all(behavior="ignoreErrors")
    dashboard.accounts.users.log_out_everywhere(user.user_id)
    page.click("#create-token")
    expect(page).to_have_url(f"{dashboard.url}/login?next=%2Fapi-tokens")


def test_a_failed_callback_is_repeated_only_where_that_may_help(page: Page, dashboard: DashboardServers) -> None:
    sent: list[str] = []
    status = 503

    def fail_twice(route: Route) -> None:
        sent.append(route.request.post_data_json["output"])
        if sent.count(sent[-1]) <= 2:
            route.fulfill(status=status, json={"error": "a test"})
        else:
            route.continue_()

    register(page, dashboard.url, "patient")
    expect(page.locator("header")).to_be_visible()
    page.route("**/_dash-update-component**", fail_twice)
    page.click("text=API")
    expect(page.locator("#connection")).to_contain_text("The server is not available. The page retries automatically.")
    expect(page.get_by_text("0 of 1,000 calls used this month")).to_be_visible()
    expect(page.locator("#connection")).to_have_count(0)

    status = 500
    sent.clear()
    page.click("text=Overview")
    expect(page.locator("#connection")).to_contain_text("Reload the page, or try again later.")


def test_a_late_callback_does_not_change_where_logging_out_leads(page: Page, dashboard: DashboardServers) -> None:
    held: list[tuple[Route, APIResponse]] = []
    register(page, dashboard.url, "leaver-with-callbacks")
    expect(page.locator("header")).to_be_visible()
    page.evaluate(_CALL_FOR_EVER)
    page.route("**/logout", lambda route: held.append((route, route.fetch(max_redirects=0))))
    with page.expect_response(lambda response: response.status == 401):  # the session ended before the page changes
        # not by Playwright's click, which waits for the next page
        page.locator("text=Log out").first.evaluate("button => setTimeout(() => button.click())")
    ((route, response),) = held
    route.fulfill(response=response)

    expect(page).to_have_url(f"{dashboard.url}/login")
    page.goto(f"{dashboard.url}/account")
    expect(page).to_have_url(f"{dashboard.url}/login?next=/account")


def test_a_password_is_changed(page: Page, dashboard: DashboardServers) -> None:
    dashboard.accounts.users.create("careful", PASSWORD)
    log_in(page, dashboard.url, "careful", "/account")
    page.fill("#current-password", "not the password")
    page.fill("#new-password", "staples in a paper boat")
    page.click("#change-password")
    expect(page.get_by_text("The current password is wrong.")).to_be_visible()
    page.fill("#current-password", PASSWORD)
    page.click("#change-password")
    expect(page.get_by_text("Password changed.")).to_be_visible()

    page.reload()  # this session continues
    expect(page.locator("#sessions")).to_contain_text("This session")
    page.click("text=Log out")
    expect(page).to_have_url(f"{dashboard.url}/login")


def test_enter_asks_before_the_account_is_deleted(page: Page, dashboard: DashboardServers) -> None:
    user_id = dashboard.accounts.users.create("hasty", PASSWORD).user_id
    dashboard.accounts.tokens.create(user_id, "laptop")
    log_in(page, dashboard.url, "hasty", "/account")
    expect(page.locator("#sessions")).to_contain_text("This session")
    dialog = page.get_by_role("dialog", name="Delete your account?")

    page.fill("#delete-password", PASSWORD)
    page.press("#delete-password", "Enter")
    expect(dialog).to_contain_text("The account hasty, its tokens and its record of calls are deleted")
    page.screenshot(path=ARTIFACTS / "delete-account.png")
    page.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    page.reload()  # still logged in
    expect(page.locator("#sessions")).to_contain_text("This session")
    assert len(dashboard.accounts.tokens.of_user(user_id)) == 1

    page.fill("#delete-password", "not the password")
    page.click("#delete-account")
    dialog.get_by_role("button", name="Delete my account").click()
    expect(page.get_by_text("The current password is wrong.")).to_be_visible()
    assert dashboard.accounts.users.get(user_id).name == "hasty"

    page.fill("#delete-password", PASSWORD)
    page.press("#delete-password", "Enter")
    dialog.get_by_role("button", name="Delete my account").click()
    expect(page).to_have_url(f"{dashboard.url}/register")
    with pytest.raises(WrongCredentials):
        dashboard.accounts.users.authenticate("hasty", PASSWORD)


def test_a_session_of_another_browser_is_listed_and_logged_out(browser: Browser, dashboard: DashboardServers) -> None:
    name = "two browsers"
    here, other = browser.new_context(), browser.new_context(user_agent="Firefox/140.0 (Windows)")
    page, elsewhere = here.new_page(), other.new_page()
    dashboard.accounts.users.create(name, PASSWORD)
    log_in(elsewhere, dashboard.url, name, "/account")
    expect(elsewhere.locator("#sessions")).to_be_visible()
    log_in(page, dashboard.url, name, "/account")
    expect(page.locator("#sessions")).to_contain_text("Chrome on Linux")
    expect(page.get_by_text("This session")).to_have_count(1)
    for window in (PHONE, {"width": 1440, "height": 900}):
        page.set_viewport_size(window)
        assert horizontal_overflow_px(page) <= 0
        page.screenshot(path=ARTIFACTS / f"account-{window['width']}.png", full_page=True)
    assert axe_violations(page) == []
    page.get_by_role("button", name="log out Firefox on Windows").click()
    expect(page.get_by_text("Firefox on Windows is logged out.")).to_be_visible()
    expect(page.get_by_role("button", name="log out Firefox on Windows")).to_have_count(0)
    elsewhere = other.new_page()  # the open page may be loading by itself
    elsewhere.goto(f"{dashboard.url}/account")
    expect(elsewhere).to_have_url(f"{dashboard.url}/login?next=/account")

    log_in(elsewhere, dashboard.url, name, "/account")
    expect(elsewhere.locator("#sessions")).to_contain_text("Firefox on Windows")
    page.get_by_role("button", name="Log out all other sessions").click()
    expect(page.get_by_text("All other sessions are logged out.")).to_be_visible()
    page.reload()  # this session continues
    expect(page.locator("#sessions")).to_contain_text("Chrome on Linux")
    elsewhere.reload()
    expect(elsewhere).to_have_url(f"{dashboard.url}/login?next=/account")
    here.close()
    other.close()


@pytest.mark.parametrize("path", ["/_dash-layout", "/_dash-dependencies"])
def test_the_routes_of_dash_require_a_log_in(dashboard: DashboardServers, path: str) -> None:
    answer = httpx.get(dashboard.url + path)

    assert answer.status_code == 401
    assert answer.json() == {"error": "log in first"}


def test_a_callback_requires_a_log_in(dashboard: DashboardServers) -> None:
    answer = httpx.post(f"{dashboard.url}/_dash-update-component", json={})

    assert answer.status_code == 401
    assert answer.json() == {"error": "log in first"}


def test_log_in_never_redirects_to_another_site(browser: Browser, dashboard: DashboardServers) -> None:
    dashboard.accounts.users.create("wanderer", PASSWORD)
    with browser.new_context(java_script_enabled=False) as context:  # the page that follows need not start
        page = context.new_page()
        for target in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "//[", "/logout"):
            context.clear_cookies()
            page.goto(f"{dashboard.url}/login?next={quote(target, safe='')}")
            page.fill("input[name=name]", "wanderer")
            page.fill("input[name=password]", PASSWORD)
            page.click("button[type=submit]")
            expect(page).to_have_url(f"{dashboard.url}/")


def test_repeated_wrong_passwords_are_throttled(dashboard: DashboardServers) -> None:
    with httpx.Client(base_url=dashboard.url) as stranger:
        form = stranger.get("/login").text
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', form)
        assert token is not None
        guesses = [{"csrf_token": token[1], "name": "admin", "password": f"guess-{n}"} for n in range(40)]
        answers = [stranger.post("/login", data=guess).status_code for guess in guesses]

    assert answers[0] == 200
    assert answers[-1] == 429
