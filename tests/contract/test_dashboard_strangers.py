"""Requests that no page sends: they never cause a 5xx or a redirect to a host that the request names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from dash import Dash

from dash_app.app import create_app
from dash_app.security import callback_limit
from make_us_rich.accounts import ADMIN, Accounts
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from tests.support.dashboard_client import DashboardClient
from tests.support.processes import free_port
from tests.support.servers import migrated_database
from tests.unit.dash_app.forecast_documents import make_forecast

PASSWORD = "correct horse battery"
SECRET_KEY = "contract-test"
WRONG: list[Any] = [
    None,
    True,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    10**400,
    "",
    "x",
    "../usage",
    "btc_usdt\0",
    "\ud800",
    "9" * 30,
    "x" * 100_000,
    [],
    [None],
    [[]],
    ["x"] * 900,
    {},
    {"pair": "../usage", "width": 1},
    {"pair": ["btc_usdt"], "width": "wide"},
    [{}],
    [{"user_id": "1; DROP TABLE users"}],
    [{"user_id": "9" * 18, "name": "\0", "role": [], "plan": {}}],
    [{"pair": "../usage"}],
    [{"run_id": "../x", "version": "x", "decision": 7, "airflow_run": None}],
]


@pytest.fixture(autouse=True)
def _no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests send more than a person does."""
    monkeypatch.setattr(callback_limit, "CALLBACKS_PER_MINUTE", 1_000_000)


@pytest.fixture(scope="module")
def app() -> Iterator[Dash]:
    nobody = f"http://127.0.0.1:{free_port()}"
    with migrated_database() as url:
        pairs_table.seed(Database(url), ("btc_usdt",), ())
        with Accounts(Database(url)) as accounts:
            accounts.users.create("root", PASSWORD, role=ADMIN)
        settings = Settings(
            database_url=url, secret_key=SECRET_KEY, airflow_url=nobody, mlflow_url=nobody, api_url=nobody
        )
        made = create_app(settings)
        DashboardClient(made.server.test_client()).get("/login")  # Dash collects its callbacks at the first request
        yield made


@pytest.fixture(scope="module")
def root(app: Dash) -> DashboardClient:
    visitor = DashboardClient(app.server.test_client(), "198.51.100.1")
    visitor.log_in("root", PASSWORD)
    visitor.get("/")
    return visitor


@pytest.fixture
def stranger(app: Dash) -> DashboardClient:
    return DashboardClient(app.server.test_client(), "203.0.113.9")


def _call(app: Dash, key: str) -> dict[str, Any]:
    """Return a well-formed request of a callback: one click, nothing selected."""
    callback = app.callback_map[key]
    names = key[2:-2].split("...") if key.startswith("..") else [key]
    outputs = [dict(zip(("id", "property"), name.partition("@")[0].rsplit(".", 1), strict=True)) for name in names]
    sent = {
        kind: [
            [{"id": dict.fromkeys(json.loads(part["id"]), 7), "property": part["property"], "value": 1}]
            if part["id"].startswith("{")
            else {**part, "value": 1 if part["property"].endswith("n_clicks") else None}
            for part in callback[kind]
        ]
        for kind in ("inputs", "state")
    }
    first = callback["inputs"][0]
    return {
        "output": key,
        "outputs": outputs if key.startswith("..") else outputs[0],
        **sent,
        "changedPropIds": [] if first["id"].startswith("{") else [f"{first['id']}.{first['property']}"],
    }


def _malformed_calls(app: Dash) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield, for each callback, requests with one wrong value, and requests with missing or invented parts."""
    for key, callback in app.callback_map.items():
        if "callback" not in callback:
            continue
        for kind in ("inputs", "state"):
            for number, part in enumerate(callback[kind]):
                for value in WRONG:
                    call = _call(app, key)
                    if isinstance(call[kind][number], list):
                        call[kind][number][0]["id"] = dict.fromkeys(json.loads(part["id"]), value)
                    else:
                        call[kind][number]["value"] = value
                    yield f"{part['id']}.{part['property']} = {str(value)[:40]}", call
            yield f"{key} without {kind}", _call(app, key) | {kind: []}
            yield f"{key} with odd {kind}", _call(app, key) | {kind: [None]}
        for field in ("output", "outputs", "inputs", "state", "changedPropIds"):
            for value in (None, 7, "x", [], [None], {"id": 7}):
                yield f"{key}: {field} = {str(value)[:40]}", _call(app, key) | {field: value}


def test_a_malformed_callback_request_never_answers_5xx(app: Dash, root: DashboardClient) -> None:
    failed = {}
    tried = 0
    for what, call in _malformed_calls(app):
        tried += 1
        answer = root.send_callback(call)
        if answer.status_code == 401:  # one of the requests was "log out everywhere"
            root.log_in("root", PASSWORD)
            root.get("/")
            answer = root.send_callback(call)
        if answer.status_code >= 500:
            failed[what] = answer.status_code
    assert tried > 2000
    assert not failed


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b'"x"', b"[" * 200_000], ids=lambda body: str(body[:8])
)
def test_a_body_that_is_no_callback_request_answers_4xx(root: DashboardClient, body: bytes) -> None:
    assert 400 <= root.post_raw("/_dash-update-component", body).status_code < 500


def test_an_unknown_callback_answers_400(app: Dash, root: DashboardClient) -> None:
    in_the_browser = [key for key, callback in app.callback_map.items() if "callback" not in callback]
    assert in_the_browser
    for key in ("nobody.children", "..nobody.children...x.y..", *in_the_browser):
        call = {"output": key, "outputs": [], "inputs": [], "state": [], "changedPropIds": []}
        assert root.send_callback(call).status_code == 400, key


def test_the_forecast_that_a_page_shows_is_read_from_the_server_although_the_service_is_down(
    app: Dash, root: DashboardClient
) -> None:
    call = _call(app, next(key for key in app.callback_map if key.startswith("..reading.children")))
    key = app.server.extensions["services"].shown.keep(make_forecast(100.0))

    def answer(key: str, above: object = "101") -> tuple[int, str]:
        shown = {"pair": "btc_usdt", "interval": "1h", "key": key}
        for part, value in zip(call["inputs"], (shown, 8, above), strict=True):
            part["value"] = value
        got = root.send_callback(call)
        return got.status_code, got.text

    status, body = answer(key)
    assert status == 200
    assert "8 h ahead" in body
    assert "above 101.000" in body
    for unusual in ("0", "-1", "", "x", "-", "9" * 400, "1e300", "5e-324", "1e-999", None):
        status, body = answer(key, unusual)
        assert status == 200, unusual
    status, body = answer("0" * 64)
    assert (status, json.loads(body)["response"]) == (200, {}), "what the page of another process shows stays"
    for wrong in (f"x{key}", key[:-1], "../usage", key.upper()):
        assert answer(wrong)[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        "/_dash-component-suites/os/path.py",
        "/_dash-component-suites/dash/dash.py",
        "/_dash-component-suites/dash/..%2f..%2fflask/app.py",
        "/_dash-component-suites/no_such_package/x.js",
        "/_dash-component-suites/dash/deps/%00.js",
        "/assets/%00",
        "/assets/..%2fapp.py",
        "/login?next=%0d%0aSet-Cookie:%20a=b",
        "/set-password/%00%ff%0d%0a",
        "/register?next=%0d%0a",
        "/%0d%0a?next=%0d%0a",
        "/?%ff=%00",
        "/_dash-layout",
        "/_dash-dependencies",
        "/_reload-hash",
        "/_favicon.ico",
        "/no-such-page",
    ],
)
@pytest.mark.parametrize("known", [False, True], ids=["stranger", "admin"])
def test_an_unusual_path_never_answers_5xx(
    stranger: DashboardClient, root: DashboardClient, path: str, known: bool
) -> None:
    visitor = root if known else stranger
    for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE"):
        answer = visitor.client.open(path, method=method)
        assert answer.status_code < 500, method
        answer.close()


@pytest.mark.parametrize("target", ["%0d%0aX-Made: up", "/%0d%0a", "/\t/evil.example", "/%00"])
def test_log_in_ignores_a_malformed_next_page(stranger: DashboardClient, target: str) -> None:
    answer = stranger.submit(f"/login?next={target}", name="root", password=PASSWORD)

    assert (answer.status_code, answer.headers["Location"]) == (302, "/")


@pytest.mark.parametrize("path", ["/account", "/login/", "//evil.example/account"])
def test_a_redirect_ignores_the_host_and_scheme_of_the_request(stranger: DashboardClient, path: str) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    answer = stranger.client.get(path, headers=headers)

    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/login?next=/")
    assert "Strict-Transport-Security" not in answer.headers
