"""The HTTP application alone: no pair is served and no Postgres runs."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from fastapi import FastAPI

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from serve_app.api import v1
from serve_app.api.app import make_app
from serve_app.gateway.forecast_service import CachedForecast
from tests.support.forecasts import make_forecast
from tests.support.gateway_parts import AnyToken, OneAnswer
from tests.support.local_replica_client import LocalReplicaClient

NO_POSTGRES = "postgresql://nobody:nothing@127.0.0.1:9/none"
DASHBOARD = "https://dashboard.example"


def ask(method: str, path: str, **rest: object) -> httpx.Response:
    settings = Settings(pairs=("btc_usdt",), cors_origins=(DASHBOARD,))
    app = make_app(settings, LocalReplicaClient(settings, {}), Accounts(Database(NO_POSTGRES)))

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            return await client.request(method, path, **rest)

    return asyncio.run(call())


def test_without_a_pair_it_is_alive_and_not_ready() -> None:
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


def test_the_docs_page_loads_nothing_from_another_host() -> None:
    assert "https://" not in ask("GET", "/docs").text
    assert ask("GET", "/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_a_body_of_more_than_a_million_bytes_is_refused() -> None:
    answer = ask("POST", "/v1/forecasts/btc_usdt", content=b" " * 1_000_001)
    assert (answer.status_code, answer.json()["field"]) == (413, "body")


def test_the_error_for_a_wrong_method_lists_the_allowed_ones() -> None:
    answer = ask("DELETE", "/v1/forecasts/btc_usdt")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, POST")


def test_the_fast_route_answers_as_a_usual_route_does() -> None:
    """The arguments that `FastForecastRoute` reads are those that FastAPI resolves from the endpoint's signature."""
    settings = Settings(pairs=("btc_usdt",))
    now_ms = time.time_ns() // 1_000_000
    document = make_forecast("btc_usdt", as_of_ms=now_ms).document(settings, now_ms=now_ms)
    app = make_app(settings, OneAnswer(document), Accounts(Database(NO_POSTGRES)))
    app.add_api_route("/usual/{pair}", v1.forecast)
    app.state.tokens = AnyToken()
    app.state.service.count_call = _free_call
    requests: list[tuple[str, dict[str, str], int]] = [
        ("btc_usdt", {}, 200),
        ("btc_usdt?model=naive", {}, 200),
        ("btc_usdt", {"If-None-Match": CachedForecast.of(document).etag}, 304),
        ("btc_usdt?horizons=24,1,1", {}, 200),
        ("btc_usdt?horizons=8&model=naive", {"If-None-Match": CachedForecast.of(document).only((8,)).etag}, 304),
        ("btc_usdt?horizons=", {}, 422),
        ("btc_usdt?horizons=25", {}, 422),
        ("btc_usdt", {"Authorization": ""}, 401),
        ("btc_usdt?interval=1h", {}, 200),
        ("btc_usdt?interval=4h", {}, 422),
        ("btc_usdt?intervals=1h", {}, 422),
        ("BTCUSDT", {}, 422),
    ]
    for path, headers, status in requests:
        fast, usual = (_get(app, f"{prefix}/{path}", headers) for prefix in ("/v1/forecasts", "/usual"))
        assert (fast.status_code, usual.status_code) == (status, status), path
        assert fast.content == usual.content
        ages = [int(answer.headers.pop("cache-control", "=0").rpartition("=")[2]) for answer in (fast, usual)]
        assert fast.headers == usual.headers
        assert 0 <= ages[0] - ages[1] < 60  # a second may begin between the two calls


async def _free_call(_: TokenOwner) -> dict[str, str]:
    return {"RateLimit-Remaining": "9"}


def _get(app: FastAPI, path: str, headers: dict[str, str]) -> httpx.Response:
    async def call() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            return await client.get(path, headers={"Authorization": "Bearer mur_any"} | headers)

    return asyncio.run(call())
