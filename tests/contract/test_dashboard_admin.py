"""Access rules of the dashboard: each admin page and callback is requested as a member and anonymously."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dash import Dash

from dash_app.app import create_app
from make_us_rich.accounts import ADMIN, Accounts
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from tests.support.dashboard_client import DashboardClient, callback_body, click, outputs_of
from tests.support.processes import free_port
from tests.support.servers import exchange_server, migrated_database

PASSWORD = "correct horse battery"
# A callback is for admins when it reads or writes a component with one of these prefixes.
ADMIN_IDS = ("admin-", "rollback", "confirm-rollback")
ADMIN_CALLBACKS = {
    "admin-users.rowData",
    "admin-user-dialog-title.children",
    "admin-pair-dialog-title.children",
    "admin-users-notice.children",
    "admin-pairs.rowData",
    "admin-pairs-notice.children",
    "admin-health.children",
    "admin-alerts.rowData",
    "admin-audit.rowData",
    "admin-new-pair.data",
    "models-notice.children",
}


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    nobody = f"http://127.0.0.1:{free_port()}"
    with migrated_database() as url, exchange_server() as exchange_url:
        pairs_table.seed(Database(url), ("btc_usdt", "eth_usdt"), ())
        yield Settings(
            database_url=url,
            secret_key="contract-test",
            airflow_url=nobody,
            mlflow_url=nobody,
            exchange_url=exchange_url,
            dashboard_url="https://dashboard.example",
        )


@pytest.fixture(scope="module")
def accounts(settings: Settings) -> Iterator[Accounts]:
    with Accounts(Database(settings.database_url.get_secret_value())) as made:
        made.users.create("root", PASSWORD, role=ADMIN)
        made.users.create("member", PASSWORD)
        yield made


@pytest.fixture(scope="module")
def app(settings: Settings, accounts: Accounts) -> Dash:
    made = create_app(settings)
    DashboardClient(made.server.test_client()).get("/login")  # Dash collects its callbacks at the first request
    return made


def _logged_in_client(app: Dash, name: str) -> DashboardClient:
    visitor = DashboardClient(app.server.test_client(), f"198.51.100.{len(name)}")
    visitor.log_in(name, PASSWORD)
    visitor.get("/")
    return visitor


@pytest.fixture(scope="module")
def member(app: Dash) -> DashboardClient:
    return _logged_in_client(app, "member")


@pytest.fixture(scope="module")
def root(app: Dash) -> DashboardClient:
    return _logged_in_client(app, "root")


def _admin_callbacks(app: Dash) -> list[str]:
    return [
        key
        for key, callback in app.callback_map.items()
        if "callback" in callback  # the others run in the browser
        and any(
            part["id"].startswith(ADMIN_IDS) for part in [*outputs_of(key), *callback["inputs"], *callback["state"]]
        )
    ]


def test_the_list_of_admin_callbacks_is_complete(app: Dash) -> None:
    """Fails for a new admin callback, so that it is added to the list and tested below."""
    first = {
        f"{outputs_of(key)[0]['id']}.{outputs_of(key)[0]['property'].split('@')[0]}" for key in _admin_callbacks(app)
    }
    assert first == ADMIN_CALLBACKS


def test_a_member_is_refused_every_admin_callback(app: Dash, accounts: Accounts, member: DashboardClient) -> None:
    before = (accounts.admin.accounts(), accounts.audit.entries())
    for key in _admin_callbacks(app):
        first = app.callback_map[key]["inputs"][0]
        changed = f"{first['id']}.{first['property']}"
        answer = member.send_callback(callback_body(app, key, {changed: 1}, changed))
        assert answer.status_code == 403, key
    assert (accounts.admin.accounts(), accounts.audit.entries()) == before


def test_an_anonymous_request_is_refused_every_admin_callback(app: Dash) -> None:
    stranger = DashboardClient(app.server.test_client())
    for key in _admin_callbacks(app):
        assert stranger.send_callback(callback_body(app, key, {})).status_code == 401, key


def test_a_member_is_refused_the_admin_page(app: Dash, member: DashboardClient) -> None:
    answer = member.get("/admin")
    assert answer.status_code == 403
    assert "This page is for admins" in answer.text

    layout = member.send_callback(callback_body(app, "page.children", {"shown-path.data": "/admin"}))
    assert "This page is for admins" in layout.text
    assert "admin-tabs" not in layout.text


def test_an_admin_opens_the_admin_page(app: Dash, root: DashboardClient) -> None:
    assert root.get("/admin").status_code == 200
    layout = root.send_callback(callback_body(app, "page.children", {"shown-path.data": "/admin"}))
    assert "admin-tabs" in layout.text


# The admin controls


def _row(accounts: Accounts, name: str) -> Any:
    return next(row for row in accounts.admin.accounts() if row.name == name)


def test_an_admin_changes_a_role_a_plan_and_locks(app: Dash, accounts: Accounts, root: DashboardClient) -> None:
    user = accounts.users.create("changed", PASSWORD)
    chosen = {"admin-users.selectedRows": [{"user_id": str(user.user_id), "name": "changed"}]}

    click(app, root, "admin-set-role", **chosen, **{"admin-role.value": ADMIN})
    click(app, root, "admin-set-plan", **chosen, **{"admin-plan.value": "trader"})
    click(app, root, "admin-lock", **chosen)
    row = _row(accounts, "changed")
    assert (row.role, row.plan, row.locked) == (ADMIN, "trader", True)
    click(app, root, "admin-unlock", **chosen)
    assert not _row(accounts, "changed").locked

    assert "there is no plan" in click(app, root, "admin-set-plan", **chosen).lower()
    before = accounts.audit.entries(4)
    click(app, root, "admin-lock")  # no row is selected
    assert accounts.audit.entries(4) == before
    entries = [(entry.actor, entry.action, entry.subject) for entry in accounts.audit.entries(4)]
    assert entries == [("root", action, "changed") for action in ("unlock", "lock", "set plan", "make admin")]


def test_an_admin_creates_a_password_link(app: Dash, accounts: Accounts, root: DashboardClient) -> None:
    user = accounts.users.create("forgetful", PASSWORD)
    chosen = {"admin-users.selectedRows": [{"user_id": str(user.user_id), "name": "forgetful"}]}
    text = click(app, root, "admin-link", **chosen)

    secret = text.partition("https://dashboard.example/set-password/")[2].partition("'")[0]
    assert accounts.links.owner(secret).name == "forgetful"


def test_an_admin_sets_the_quota_of_a_plan(app: Dash, accounts: Accounts, root: DashboardClient) -> None:
    click(app, root, "admin-set-quota", **{"admin-quota-plan.value": "trader", "admin-quota.value": "30,000"})
    assert {plan.name: plan.monthly_calls for plan in accounts.admin.plans()}["trader"] == 30_000

    for typed, said in (("0", "A plan allows"), ("30000,5", "'30000,5' is no number of calls"), (None, "no number of")):
        refused = {"admin-quota-plan.value": "trader", "admin-quota.value": typed}
        assert said in click(app, root, "admin-set-quota", **refused).replace('\\"', "'")
    assert {plan.name: plan.monthly_calls for plan in accounts.admin.plans()}["trader"] == 30_000
    click(app, root, "admin-set-quota", **{"admin-quota-plan.value": "trader", "admin-quota.value": "1e5"})
    assert {plan.name: plan.monthly_calls for plan in accounts.admin.plans()}["trader"] == 100_000


def test_an_admin_parks_a_pair_with_a_reason_and_adds_a_new_one(
    app: Dash, settings: Settings, accounts: Accounts, root: DashboardClient
) -> None:
    url = settings.database_url.get_secret_value()
    chosen = {"admin-pairs.selectedRows": [{"pair": "eth_usdt"}]}

    assert "Enter a reason" in click(app, root, "admin-park", **chosen)
    parked = click(app, root, "admin-park", **chosen, **{"admin-park-reason.value": "halted by the exchange"})
    assert "The service takes it over when the next training run ends" in parked, "the service is down here"
    assert [item.pair for item in pairs_table.active(Database(url))] == ["btc_usdt"]
    click(app, root, "admin-unpark", **chosen)
    assert "fancy" in click(app, root, "admin-set-pair-plan", **chosen, **{"admin-pair-plan.value": "fancy"})
    click(app, root, "admin-set-pair-plan", **chosen, **{"admin-pair-plan.value": "pooled"})
    plans = {item.pair: item.plan for item in pairs_table.tracked(Database(url))}
    assert plans["eth_usdt"] == "pooled"
    put = {"admin-new-pair.value": "SOL / USDT", "admin-new-pair-plan.value": "pooled"}
    click(app, root, "admin-put-pair", **put)
    assert [item.pair for item in pairs_table.active(Database(url))] == ["btc_usdt", "eth_usdt", "sol_usdt"]

    unknown = {"admin-new-pair.value": "foo_bar", "admin-new-pair-plan.value": "pooled"}
    assert "The exchange does not trade foo_bar." in click(app, root, "admin-put-pair", **unknown)
    nonsense = {"admin-new-pair.value": "<b>", "admin-new-pair-plan.value": "pooled"}
    assert "<b>" in click(app, root, "admin-put-pair", **nonsense)
    actions = [entry.action for entry in accounts.audit.entries(4)]
    assert actions == ["put pair", "put pair", "unpark pair", "park pair"]


def test_a_training_run_that_cannot_start_shows_the_error(app: Dash, root: DashboardClient) -> None:
    chosen = {"admin-pairs.selectedRows": [{"pair": "btc_usdt"}]}

    assert "cannot be reached" in click(app, root, "admin-train", **chosen)


def test_health_names_what_is_down(app: Dash, root: DashboardClient) -> None:
    text = click(app, root, "admin-check-health", **{"admin-tabs.value": "Health"})

    assert "failed" in text
    assert "postgres" in text
