"""Log-in, sessions and throttling over HTTP, with a real Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from dash_app.app import create_app
from make_us_rich.accounts import Accounts
from make_us_rich.accounts.sessions import LIFETIME
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from tests.support.accounts import transaction
from tests.support.dashboard_client import DashboardClient
from tests.support.servers import migrated_database

PASSWORD = "correct horse battery"
ANOTHER = "staples in a paper boat"
_FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1 Version/18.0 Mobile Safari/604.1"
_HOSTS = count(1)  # one address for each test, so that limits are not shared


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with migrated_database() as url:
        yield Settings(database_url=url, secret_key="contract-test")


@pytest.fixture(scope="module")
def accounts(settings: Settings) -> Iterator[Accounts]:
    with Accounts(Database(settings.database_url.get_secret_value())) as made:
        yield made


@pytest.fixture(scope="module")
def server(settings: Settings) -> Flask:
    return create_app(settings).server


@pytest.fixture
def visitor(server: Flask) -> DashboardClient:
    return DashboardClient(server.test_client(), f"10.0.0.{next(_HOSTS)}")


@pytest.fixture
def member(accounts: Accounts, request: pytest.FixtureRequest) -> str:
    name = request.node.name[:64]
    accounts.users.create(name, PASSWORD)
    return name


def _copy_cookies(server: Flask, visitor: DashboardClient) -> DashboardClient:
    """Return another browser with the same cookies."""
    thief = DashboardClient(server.test_client())
    for name, value in visitor.cookies().items():
        thief.client.set_cookie(name, value)
    return thief


@pytest.mark.parametrize(
    "end",
    [
        lambda accounts, user_id: accounts.users.log_out_everywhere(user_id),
        lambda accounts, user_id: accounts.users.change_password(user_id, PASSWORD, ANOTHER),
        lambda accounts, user_id: accounts.admin.lock(user_id, by="test"),
        lambda accounts, user_id: accounts.users.delete(user_id, PASSWORD),
    ],
    ids=["log out everywhere", "change password", "lock", "delete"],
)
@pytest.mark.parametrize("remember", [{}, {"remember": "y"}], ids=["session", "remembered"])
def test_copied_cookies_end_with_the_sessions(
    server: Flask,
    accounts: Accounts,
    visitor: DashboardClient,
    member: str,
    remember: dict[str, str],
    end: Callable[[Accounts, int], object],
) -> None:
    visitor.log_in(member, PASSWORD, **remember)
    thief = _copy_cookies(server, visitor)
    assert thief.is_logged_in()
    assert ("remember_token" in visitor.cookies()) == bool(remember)

    end(accounts, accounts.users.authenticate(member, PASSWORD).user_id)

    assert not visitor.is_logged_in()
    assert not thief.is_logged_in()


@pytest.mark.parametrize("remember", [{}, {"remember": "y"}], ids=["session", "remembered"])
def test_logging_out_ends_this_session_and_its_copies_and_no_other(
    server: Flask, visitor: DashboardClient, member: str, remember: dict[str, str]
) -> None:
    elsewhere = DashboardClient(server.test_client())
    for browser in (visitor, elsewhere):
        browser.log_in(member, PASSWORD, **remember)
    thief = _copy_cookies(server, visitor)
    assert all(browser.is_logged_in() for browser in (visitor, thief, elsewhere))

    assert visitor.post_form("/", "/logout").status_code == 302

    assert "remember_token" not in visitor.cookies()
    assert not visitor.is_logged_in()
    assert not thief.is_logged_in()
    thief.client.delete_cookie("session")  # leaves only the remember cookie, if there was one
    assert not thief.is_logged_in()
    assert elsewhere.is_logged_in()


def test_the_account_page_lists_sessions_and_ends_others(server: Flask, accounts: Accounts, member: str) -> None:
    """Two browsers and a thief of this one's cookies: one is logged out, then all others."""
    here, phone, laptop = (DashboardClient(server.test_client()) for _ in range(3))
    for browser, agent in ((here, _FIREFOX), (phone, _PHONE), (laptop, "curl/8")):
        browser.client.environ_base["HTTP_USER_AGENT"] = agent
        browser.log_in(member, PASSWORD, remember="y")
        assert browser.is_logged_in()
    thief = _copy_cookies(server, here)
    user_id = accounts.users.authenticate(member, PASSWORD).user_id
    sessions = {each.device: each for each in accounts.sessions.of_user(user_id)}
    assert set(sessions) == {"Firefox on Linux", "Safari on iPhone", "Unknown browser"}

    shown = _click_session(here, sessions["Safari on iPhone"].session_id).text
    assert "Safari on iPhone is logged out." in shown
    assert "This session" in shown
    assert not phone.is_logged_in()
    phone.client.delete_cookie("session")  # leaves only the remember cookie
    assert not phone.is_logged_in()
    assert all(browser.is_logged_in() for browser in (here, laptop, thief))
    assert "This session has ended already." in _click_session(here, sessions["Safari on iPhone"].session_id).text

    stranger = DashboardClient(server.test_client())
    accounts.users.create(f"{member[:58]} not", PASSWORD)
    stranger.log_in(f"{member[:58]} not", PASSWORD)
    assert "ended already" in _click_session(stranger, sessions["Unknown browser"].session_id).text
    assert laptop.is_logged_in()

    assert "All other sessions are logged out." in _click_session(here, None).text
    assert not laptop.is_logged_in()
    assert not thief.is_logged_in()
    assert here.is_logged_in()
    here.client.delete_cookie("session")
    assert here.is_logged_in()  # still remembered
    assert [each.device for each in accounts.sessions.of_user(user_id)] == ["Firefox on Linux"]
    assert accounts.audit.entries(1)[0].action == "log out everywhere"


def _click_session(browser: DashboardClient, session_id: int | None) -> TestResponse:
    """Log out one listed session, or all others."""
    browser.get("/account")
    one = {"id": {"end-session": session_id or 1}, "property": "n_clicks", "value": 1}
    clicked = "end-other-sessions.n_clicks" if session_id is None else f'{{"end-session":{session_id}}}.n_clicks'
    outputs = [{"id": "sessions", "property": "children"}, {"id": "sessions-notice", "property": "children"}]
    return browser.send_callback(
        {
            "output": "..sessions.children...sessions-notice.children..",
            "outputs": outputs,
            "inputs": [
                {"id": "end-other-sessions", "property": "n_clicks", "value": 1},
                [one],
                {"id": "password-notice", "property": "children", "value": None},
            ],
            "state": [],
            "changedPropIds": [clicked],
        }
    )


def test_a_second_log_in_ends_the_first_session(
    server: Flask, accounts: Accounts, visitor: DashboardClient, member: str
) -> None:
    accounts.users.create(f"{member[:58]} again", PASSWORD)
    visitor.log_in(member, PASSWORD, remember="y")
    thief = _copy_cookies(server, visitor)

    visitor.log_in(f"{member[:58]} again", PASSWORD)

    assert "remember_token" not in visitor.cookies()
    assert not thief.is_logged_in()


def test_a_session_ends_after_ten_days(server: Flask, accounts: Accounts, member: str) -> None:
    user = accounts.users.authenticate(member, PASSWORD)
    for age_s, is_logged_in in ((LIFETIME.total_seconds() - 60, True), (LIFETIME.total_seconds() + 60, False)):
        visitor = DashboardClient(server.test_client())
        with visitor.client.session_transaction() as session:
            session["_user_id"] = f"{user.user_id}.{user.session_version}.{int(time.time() - age_s)}.key"
        assert visitor.is_logged_in() is is_logged_in


def test_a_log_in_forgets_expired_sessions(settings: Settings, visitor: DashboardClient, member: str) -> None:
    """Most people never log out, so a log-out alone would leave every old session in the database."""
    with transaction(settings.database_url.get_secret_value()) as cursor:
        cursor.execute("SELECT user_id FROM users WHERE name = %s", (member,))
        (user_id,) = cursor.fetchone()
        cursor.execute(
            "INSERT INTO sessions (user_id, session_key, session_version, device, started_at, expires_at) "
            "VALUES (%s, 'old', 1, 'Firefox', now() - interval '11 days', now() - interval '1 day')",
            (user_id,),
        )
        cursor.execute(
            "INSERT INTO ended_sessions (user_id, session_key, expires_at) "
            "VALUES (%s, 'older', now() - interval '1 day')",
            (user_id,),
        )

    visitor.log_in(member, PASSWORD)
    assert visitor.is_logged_in()

    with transaction(settings.database_url.get_secret_value()) as cursor:
        for table in ("sessions", "ended_sessions"):
            cursor.execute(f"SELECT session_key FROM {table} WHERE expires_at <= now()")
            assert cursor.fetchall() == []


def test_session_cookies_are_http_only_and_the_remember_cookie_expires(visitor: DashboardClient, member: str) -> None:
    headers = visitor.log_in(member, PASSWORD, remember="y").headers.getlist("Set-Cookie")
    (remembered,) = [header for header in headers if header.startswith("remember_token=")]
    (session,) = [header for header in headers if header.startswith("session=")]

    for cookie in (remembered, session):
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
    assert "Expires=" in remembered
    assert "Expires=" not in session


def test_cookies_are_secure_in_production(settings: Settings, accounts: Accounts, member: str) -> None:
    made = settings.model_copy(update={"environment": "production"})
    visitor = DashboardClient(create_app(made).server.test_client())
    visitor.log_in(member, PASSWORD, remember="y")
    visitor.get("/", base_url="https://localhost")

    cookies = [visitor.client.get_cookie(name) for name in ("session", "remember_token")]
    assert all(cookie is not None and cookie.secure for cookie in cookies)


def test_attempts_on_one_account_are_throttled_and_its_owner_logs_in_from_elsewhere(
    server: Flask, visitor: DashboardClient, member: str
) -> None:
    answers = [visitor.log_in(member, f"guess number {number}").status_code for number in range(12)]
    assert answers == [200] * 10 + [429] * 2
    refused = visitor.log_in(member, PASSWORD)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 15 * 60
    assert "Too many attempts" in refused.text

    owner = DashboardClient(server.test_client(), "198.51.100.7")
    assert owner.log_in(member, PASSWORD).status_code == 302
    assert owner.is_logged_in()


def test_attempts_on_many_accounts_from_one_address_are_throttled(visitor: DashboardClient) -> None:
    answers = [visitor.log_in(f"name number {number}", PASSWORD).status_code for number in range(102)]

    assert answers == [200] * 100 + [429] * 2


def test_an_ipv6_64_network_counts_as_one_address(server: Flask, member: str) -> None:
    answers = [
        DashboardClient(server.test_client(), f"2001:db8::{number}").log_in(member, "a wrong guess").status_code
        for number in range(1, 12)
    ]
    assert answers[-1] == 429


def test_attempts_on_one_account_from_many_addresses_are_throttled(
    server: Flask, accounts: Accounts, member: str
) -> None:
    at_home = DashboardClient(server.test_client(), "198.51.100.20")
    assert at_home.log_in(member, PASSWORD).status_code == 302
    guessers = [DashboardClient(server.test_client(), f"172.20.{number}.1") for number in range(52)]
    answers = [guesser.log_in(member, "a wrong guess").status_code for guesser in guessers]
    assert answers == [200] * 50 + [429] * 2
    assert DashboardClient(server.test_client(), "198.51.100.21").log_in(member, PASSWORD).status_code == 429

    # The known browser of the owner is not locked out, and has a limit of its own.
    assert at_home.log_in(member, PASSWORD).status_code == 302
    answers = [at_home.log_in(member, "a wrong guess").status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]
    assert accounts.users.authenticate(member, PASSWORD)


def test_a_known_browser_counts_for_its_own_account_only(
    server: Flask, accounts: Accounts, visitor: DashboardClient, member: str
) -> None:
    eve = "eve of the known browser"
    accounts.users.create(eve, PASSWORD)
    visitor.log_in(eve, PASSWORD)
    answers = [visitor.log_in(member, "a wrong guess").status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]

    visitor.client.set_cookie("known_browser", "forged.by.me", path="/login")
    assert visitor.log_in(member, PASSWORD).status_code == 429


@pytest.mark.parametrize("spelling", ["SEC-{0}", "ｓｅｃ－{0}", "Sec-{0}"])
def test_all_spellings_of_a_name_share_one_limit(
    server: Flask, accounts: Accounts, visitor: DashboardClient, spelling: str
) -> None:
    key = f"{len(spelling)}{spelling[0].isascii():d}{spelling[1].isupper():d}"
    accounts.users.create(f"sec-{key}", PASSWORD)
    spellings = [f"sec-{key}", spelling.format(key)]
    answers = [visitor.log_in(spellings[number % 2], "a wrong guess").status_code for number in range(11)]
    assert answers == [200] * 10 + [429]
    other = DashboardClient(server.test_client(), "198.51.100.9")
    assert other.log_in(spelling.format(key), PASSWORD).status_code == 302


@pytest.mark.parametrize(
    ("header", "peer", "network"),
    [
        ("X-Forwarded-For", "127.0.0.1", "127.0.0.1"),
        ("X-Real-Ip", "172.18.0.7", "172.18.0.7"),
        ("Forwarded", "fd00::7", "fd00::/64"),
        ("X-Forwarded-For", "::ffff:172.18.0.8", "172.18.0.8"),
        ("X-Forwarded-For", "8.8.4.4", "8.8.4.4"),
    ],
)
def test_a_forwarding_header_switches_no_limit_off(
    settings: Settings, accounts: Accounts, header: str, peer: str, network: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a trusted proxy, whatever it says: guesses at one account, guesses at many, accounts and links."""
    server = create_app(settings).server
    visitor = DashboardClient(server.test_client(), peer)
    owner = f"{header} {peer}"
    accounts.users.create(owner, PASSWORD)

    def answers(times: int, send: Callable[[int], TestResponse]) -> list[int]:
        statuses = []
        for number in range(times):
            visitor.client.environ_base[f"HTTP_{header.upper().replace('-', '_')}"] = f"x{number}"
            statuses.append(send(number).status_code)
        return statuses

    guesses = answers(11, lambda _: visitor.log_in(owner, "a wrong guess"))
    links = answers(21, lambda number: visitor.get(f"/set-password/guess-{number}"))
    for limit in (f"log-in from {network}", f"account from {network}"):
        with accounts.database.transaction() as cursor:  # as after a thousand others
            cursor.execute(
                "INSERT INTO tries (key, count, ends_at) VALUES (%s, 1000, now() + interval '1 hour') "
                "ON CONFLICT (key) DO UPDATE SET count = 1000",
                (limit,),
            )
    assert guesses == [200] * 10 + [429]
    assert links[-1] == 429
    assert answers(1, lambda _: visitor.log_in("another name", "a wrong guess")) == [429]
    assert answers(1, lambda _: visitor.submit("/register", name=f"new {owner}", password=PASSWORD)) == [429]
    assert caplog.text.count("MUR_TRUSTED_PROXIES is 0") == (peer != "8.8.4.4")


def test_behind_an_undeclared_proxy_a_known_browser_is_not_locked_out(
    settings: Settings, accounts: Accounts, member: str
) -> None:
    server = create_app(settings).server
    owner = DashboardClient(server.test_client(), "172.18.0.9")
    assert owner.log_in(member, PASSWORD).status_code == 302
    owner.post_form("/account", "/logout")
    guesser = DashboardClient(server.test_client(), "172.18.0.9")
    assert [guesser.log_in(member, "a wrong guess").status_code for _ in range(11)][-1] == 429

    assert owner.log_in(member, PASSWORD).status_code == 302


@pytest.mark.parametrize("forwarded", ["x", "203.0.113.9:51234", "[2001:db8::1]:443", "unknown", ""])
def test_a_proxy_that_forwards_no_address_is_counted(settings: Settings, member: str, forwarded: str) -> None:
    server = create_app(settings.model_copy(update={"trusted_proxies": 1})).server
    visitor = DashboardClient(server.test_client(), f"10.9.0.{next(_HOSTS)}")
    visitor.client.environ_base["HTTP_X_FORWARDED_FOR"] = forwarded

    assert [visitor.log_in(member, "a wrong guess").status_code for _ in range(11)] == [200] * 10 + [429]


def test_the_audit_log_has_log_ins_and_failed_attempts(server: Flask, accounts: Accounts, member: str) -> None:
    visitor = DashboardClient(server.test_client(), "198.51.100.77")
    visitor.submit("/register", name=f"{member[:58]} new", password=PASSWORD)
    visitor.log_in(member, "a wrong guess")
    visitor.log_in("my password typed here", "x")
    visitor.log_in(member, PASSWORD)
    for _ in range(12):
        visitor.log_in("nobody at all", "x")

    entries = [(entry.actor, entry.action, entry.subject, entry.detail) for entry in accounts.audit.entries(16)]
    entries.reverse()
    here = "198.51.100.77"
    assert entries[-15:-11] == [
        (f"{member[:58]} new", "create account", f"{member[:58]} new", here),
        ("stranger", "fail to log in", member, here),
        ("stranger", "fail to log in", "", here),
        (member, "log in", member, here),
    ]
    assert entries[-11:-1] == [("stranger", "fail to log in", "", here)] * 10
    assert entries[-1] == ("stranger", "try too often", "", "log-in 'nobody at all' from 198.51.100.77")


@pytest.mark.parametrize(("proxies", "is_slowed"), [(0, True), (1, False)])
def test_forwarded_addresses_count_only_behind_a_trusted_proxy(
    settings: Settings, accounts: Accounts, member: str, proxies: int, is_slowed: bool
) -> None:
    server = create_app(settings.model_copy(update={"trusted_proxies": proxies})).server
    visitor = DashboardClient(server.test_client(), f"8.8.{proxies}.1")
    statuses = []
    for number in range(12):
        visitor.client.environ_base["HTTP_X_FORWARDED_FOR"] = f"203.0.113.{number}"
        statuses.append(visitor.log_in(member, "a wrong guess").status_code)

    assert (429 in statuses) is is_slowed


def test_a_link_sets_the_password_and_logs_in_once(
    server: Flask, accounts: Accounts, visitor: DashboardClient, member: str
) -> None:
    secret = accounts.links.create(accounts.users.authenticate(member, PASSWORD).user_id, by="test")
    page = visitor.get(f"/set-password/{secret}")
    assert member.replace("'", "&#39;") in page.text
    assert "10 characters or more" in visitor.submit(f"/set-password/{secret}", password="short").text

    assert visitor.submit(f"/set-password/{secret}", password=ANOTHER).status_code == 302
    assert visitor.is_logged_in()
    again = DashboardClient(server.test_client(), "192.0.2.77").get(f"/set-password/{secret}")
    assert again.status_code == 410
    assert "This link is no longer valid" in again.text


def test_attempts_on_password_links_are_throttled(visitor: DashboardClient) -> None:
    answers = [visitor.get(f"/set-password/guess-{number}").status_code for number in range(22)]

    assert answers == [410] * 20 + [429] * 2


def test_an_unknown_page_answers_404(visitor: DashboardClient, member: str) -> None:
    visitor.log_in(member, PASSWORD)
    answer = visitor.get("/no-such-page")

    assert answer.status_code == 404
    assert "Page not found" in answer.text


def test_a_callback_without_its_csrf_token_is_refused(visitor: DashboardClient, member: str) -> None:
    visitor.log_in(member, PASSWORD)
    visitor.get("/")
    visitor.client.delete_cookie("_csrf_token")

    assert visitor.send_callback({}).status_code == 400
