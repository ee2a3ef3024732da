"""What the dashboard's pages say about a parked pair and a new session, and how often a user may call them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dash import Dash

from dash_app.app import create_app
from dash_app.security import callback_limit
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from tests.support.dashboard_client import DashboardClient, callback_body
from tests.support.processes import free_port
from tests.support.servers import migrated_database

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def app() -> Iterator[Dash]:
    nobody = f"http://127.0.0.1:{free_port()}"
    with migrated_database() as url:
        pairs_table.seed(Database(url), ("btc_usdt", "eth_usdt"), ())
        pairs_table.park(Database(url), Pair("eth", "usdt"), "halted by the exchange for an upgrade")
        app = create_app(Settings(database_url=url, secret_key="contract-test", mlflow_url=nobody, api_url=nobody))
        yield app
        app.server.extensions["services"].close()


@pytest.fixture(scope="module")
def member(app: Dash) -> DashboardClient:
    visitor = DashboardClient(app.server.test_client())
    assert visitor.submit("/register", name="grace", password=PASSWORD).status_code == 302
    visitor.get("/")  # sets the CSRF cookie
    return visitor


def test_a_parked_pair_that_is_still_served_has_the_reason_for_users(app: Dash, member: DashboardClient) -> None:
    def said(pair: str) -> str:
        answer = member.send_callback(callback_body(app, "parked.children", {"pair.value": pair}))
        assert answer.status_code == 200
        return answer.text

    assert "halted by the exchange for an upgrade" in said("eth_usdt")
    assert "halted" not in said("btc_usdt")


def test_a_session_that_began_with_the_registration_is_a_log_in(app: Dash, member: DashboardClient) -> None:
    accounts = app.server.extensions["services"].accounts
    (grace,) = accounts.admin.accounts()
    assert member.is_logged_in()
    assert grace.last_login_at is not None, "the admin page says that who is logged in never was"


def test_a_user_who_lets_the_server_draw_too_often_waits(
    app: Dash, member: DashboardClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback_limit, "CALLBACKS_PER_MINUTE", 3)
    body = callback_body(app, "parked.children", {"pair.value": "btc_usdt"})
    answers = [member.send_callback(body) for _ in range(30)]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert member.get("/account").status_code == 200, "pages are no callbacks"
