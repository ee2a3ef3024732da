"""Error pages while the database is down."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from dash_app.app import create_app
from dash_app.security.login import safe_next
from make_us_rich.core.settings import Settings
from tests.support.processes import free_port


@pytest.fixture(scope="module")
def visitor() -> FlaskClient:
    nobody_listens = f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/nothing"
    app = create_app(Settings(database_url=nobody_listens, secret_key="unit-test"))
    return app.server.test_client()


def _csrf_token(visitor: FlaskClient) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', visitor.get("/login").text)
    assert found is not None
    return found[1]


def test_without_a_database_the_log_in_page_loads_and_a_log_in_answers_503(visitor: FlaskClient) -> None:
    form = {"csrf_token": _csrf_token(visitor), "name": "ada", "password": "correct horse battery"}
    answer = visitor.post("/login", data=form)

    assert answer.status_code == 503
    assert "The database does not answer" in answer.text
    assert int(answer.headers["Retry-After"]) > 0


def test_without_a_database_a_logged_in_user_gets_503(visitor: FlaskClient) -> None:
    with visitor.session_transaction() as session:
        session["_user_id"] = "1.1.9999999999.key"
    try:
        page, callback = visitor.get("/"), visitor.post("/_dash-update-component", json={})
    finally:
        visitor.delete_cookie("session")

    assert (page.status_code, callback.status_code) == (503, 503)
    assert "The database does not answer" in page.text
    assert callback.get_json() == {"error": "The database does not answer"}


def test_a_form_without_a_csrf_token_is_refused_with_advice(visitor: FlaskClient) -> None:
    answer = visitor.post("/login", data={"name": "ada", "password": "correct horse battery"})

    assert answer.status_code == 400
    assert "This page has expired" in answer.text


def test_an_unsupported_method_answers_405(visitor: FlaskClient) -> None:
    assert visitor.delete("/login").status_code == 405


def test_every_page_has_the_security_headers(visitor: FlaskClient) -> None:
    headers = visitor.get("/login").headers

    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Strict-Transport-Security" not in headers
    assert "Strict-Transport-Security" in visitor.get("/login", base_url="https://localhost").headers


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("/api-tokens", "/api-tokens"),
        ("/?pair=btc_usdt", "/?pair=btc_usdt"),
        ("https://evil.example", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("//[", "/"),
        ("/logout", "/"),
        ("/_dash-layout", "/"),
        ("", "/"),
    ],
)
def test_safe_next_accepts_pages_of_this_site_only(target: str, leads_to: str) -> None:
    assert safe_next(target) == leads_to
