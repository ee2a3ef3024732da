"""Who gets into the dashboard, for how long, and how often they may guess: over HTTP, with a real Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from flask import Flask

from dash_app.app import create_app
from dash_app.sessions import LIFETIME
from make_us_rich.accounts import Accounts
from make_us_rich.migrations import migrate
from make_us_rich.settings import Settings
from tests.support.dashboard import Visitor
from tests.support.folders import open_folder
from tests.support.servers import postgres_server

PASSWORD = "correct horse battery"
ANOTHER = "staples in a paper boat"
_HOSTS = count(1)  # an address a test, so that none is slowed by the tries of another


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with open_folder() as folder, postgres_server(folder) as url:
        migrate(url)
        yield Settings(database_url=url, secret_key="contract-test")


@pytest.fixture(scope="module")
def accounts(settings: Settings) -> Iterator[Accounts]:
    with Accounts(settings.database_url.get_secret_value()) as made:
        yield made


@pytest.fixture(scope="module")
def server(settings: Settings) -> Flask:
    return create_app(settings).server


@pytest.fixture
def visitor(server: Flask) -> Visitor:
    return Visitor(server.test_client(), f"10.0.0.{next(_HOSTS)}")


@pytest.fixture
def member(accounts: Accounts, request: pytest.FixtureRequest) -> str:
    name = request.node.name[:64]
    accounts.create_user(name, PASSWORD)
    return name


def _copied(server: Flask, visitor: Visitor) -> Visitor:
    """A thief with the same cookies."""
    thief = Visitor(server.test_client())
    for name, value in visitor.cookies().items():
        thief.client.set_cookie(name, value)
    return thief


@pytest.mark.parametrize(
    "end",
    [
        lambda accounts, user_id: accounts.log_out_everywhere(user_id),
        lambda accounts, user_id: accounts.change_password(user_id, PASSWORD, ANOTHER),
        lambda accounts, user_id: accounts.lock(user_id, by="test"),
        lambda accounts, user_id: accounts.delete_user(user_id, PASSWORD),
    ],
    ids=["log out everywhere", "change password", "lock", "delete"],
)
@pytest.mark.parametrize("remember", [{}, {"remember": "y"}], ids=["session", "remembered"])
def test_copied_cookies_end_with_the_sessions(
    server: Flask,
    accounts: Accounts,
    visitor: Visitor,
    member: str,
    remember: dict[str, str],
    end: Callable[[Accounts, int], object],
) -> None:
    visitor.log_in(member, PASSWORD, **remember)
    thief = _copied(server, visitor)
    assert thief.is_in()
    assert ("remember_token" in visitor.cookies()) == bool(remember)

    end(accounts, accounts.authenticate(member, PASSWORD).user_id)

    assert not visitor.is_in()
    assert not thief.is_in()


def test_a_session_ends_after_ten_days_whatever_its_cookie_says(
    server: Flask, accounts: Accounts, member: str
) -> None:
    user = accounts.authenticate(member, PASSWORD)
    for age_s, is_in in ((LIFETIME.total_seconds() - 60, True), (LIFETIME.total_seconds() + 60, False)):
        visitor = Visitor(server.test_client())
        with visitor.client.session_transaction() as session:
            session["_user_id"] = f"{user.user_id}.{user.session_version}.{int(time.time() - age_s)}"
        assert visitor.is_in() is is_in


def test_remembering_lasts_ten_days_and_cookies_are_out_of_scripts_reach(
    visitor: Visitor, member: str
) -> None:
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
    visitor = Visitor(create_app(made).server.test_client())
    visitor.log_in(member, PASSWORD, remember="y")
    visitor.get("/", base_url="https://localhost")

    cookies = [visitor.client.get_cookie(name) for name in ("session", "remember_token")]
    assert all(cookie is not None and cookie.secure for cookie in cookies)


def test_guessing_at_one_account_is_slowed_and_its_owner_gets_in_from_elsewhere(
    server: Flask, visitor: Visitor, member: str
) -> None:
    answers = [visitor.log_in(member, f"guess number {number}").status_code for number in range(12)]
    assert answers == [200] * 10 + [429] * 2
    refused = visitor.log_in(member, PASSWORD)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 15 * 60
    assert "Too many tries" in refused.text

    owner = Visitor(server.test_client(), "198.51.100.7")
    assert owner.log_in(member, PASSWORD).status_code == 302
    assert owner.is_in()


def test_guessing_at_many_accounts_from_one_address_is_slowed(visitor: Visitor) -> None:
    answers = [visitor.log_in(f"name number {number}", PASSWORD).status_code for number in range(102)]

    assert answers == [200] * 100 + [429] * 2


def test_an_ipv6_household_is_one_guesser(server: Flask, member: str) -> None:
    answers = [
        Visitor(server.test_client(), f"2001:db8::{number}").log_in(member, "a wrong guess").status_code
        for number in range(1, 12)
    ]
    assert answers[-1] == 429


@pytest.mark.parametrize(("proxies", "is_slowed"), [(0, True), (1, False)])
def test_forwarded_addresses_are_believed_only_behind_a_proxy(
    settings: Settings, accounts: Accounts, member: str, proxies: int, is_slowed: bool
) -> None:
    server = create_app(settings.model_copy(update={"trusted_proxies": proxies})).server
    visitor = Visitor(server.test_client(), f"10.99.{proxies}.1")
    statuses = []
    for number in range(12):
        visitor.client.environ_base["HTTP_X_FORWARDED_FOR"] = f"203.0.113.{number}"
        statuses.append(visitor.log_in(member, "a wrong guess").status_code)

    assert (429 in statuses) is is_slowed


def test_a_link_sets_the_password_and_logs_in_once(
    server: Flask, accounts: Accounts, visitor: Visitor, member: str
) -> None:
    secret = accounts.create_password_link(accounts.authenticate(member, PASSWORD).user_id, by="test")
    page = visitor.get(f"/set-password/{secret}")
    assert member.replace("'", "&#39;") in page.text
    assert "10 characters or more" in visitor.submit(f"/set-password/{secret}", password="short").text

    assert visitor.submit(f"/set-password/{secret}", password=ANOTHER).status_code == 302
    assert visitor.is_in()
    again = Visitor(server.test_client(), "192.0.2.77").get(f"/set-password/{secret}")
    assert again.status_code == 410
    assert "This link does not work any more" in again.text


def test_links_cannot_be_guessed_at(visitor: Visitor) -> None:
    answers = [visitor.get(f"/set-password/guess-{number}").status_code for number in range(22)]

    assert answers == [410] * 20 + [429] * 2


def test_an_address_that_leads_nowhere_is_not_found(visitor: Visitor, member: str) -> None:
    visitor.log_in(member, PASSWORD)
    answer = visitor.get("/no-such-page")

    assert answer.status_code == 404
    assert "There is no such page" in answer.text


def test_a_callback_without_its_csrf_token_is_refused(visitor: Visitor, member: str) -> None:
    visitor.log_in(member, PASSWORD)
    visitor.get("/")
    visitor.client.delete_cookie("_csrf_token")

    assert visitor.call_back({}).status_code == 400
