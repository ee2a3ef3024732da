"""The gateway's own manners, with no pair served and no Postgres listening."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings
from serve_app.gateway.app import make_app
from tests.support.local_replica_client import LocalReplicaClient

NO_POSTGRES = "postgresql://nobody:nothing@127.0.0.1:9/none"
DASHBOARD = "https://dashboard.example"


def ask(method: str, path: str, **rest: object) -> httpx.Response:
    settings = Settings(pairs=("btc_usdt",), cors_origins=(DASHBOARD,))
    app = make_app(settings, LocalReplicaClient(settings, {}), Accounts(NO_POSTGRES))

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            return await client.request(method, path, **rest)

    return asyncio.run(call())


def test_with_no_pair_to_serve_it_lives_and_is_not_ready() -> None:
    answer = ask("GET", "/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "pairs": {}})
    assert ask("GET", "/healthz").status_code == 200
    assert ask("GET", "/v1/pairs").json() == {"pairs": []}


def test_without_postgres_a_token_cannot_be_checked() -> None:
    answer = ask("GET", "/v1/forecasts/btc_usdt", headers={"Authorization": "Bearer mur_any"})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:make-us-rich:problem:accounts-away")
    assert "Retry-After" in answer.headers


@pytest.mark.parametrize(("origin", "allowed"), [(DASHBOARD, DASHBOARD), ("https://elsewhere.example", None)])
def test_only_the_configured_origins_may_call_from_a_browser(origin: str, allowed: str | None) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    answer = ask("OPTIONS", "/v1/forecasts/btc_usdt", headers=headers)
    assert answer.headers.get("Access-Control-Allow-Origin") == allowed


def test_the_docs_page_needs_nothing_from_elsewhere() -> None:
    assert "https://" not in ask("GET", "/docs").text
    assert ask("GET", "/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_a_body_of_more_than_a_million_bytes_is_refused() -> None:
    answer = ask("POST", "/v1/forecasts/btc_usdt", content=b" " * 1_000_001)
    assert (answer.status_code, answer.json()["field"]) == (413, "body")


def test_a_wrong_method_is_told_all_the_right_ones() -> None:
    answer = ask("DELETE", "/v1/forecasts/btc_usdt")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
