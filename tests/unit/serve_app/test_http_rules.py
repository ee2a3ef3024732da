"""HTTP's common rules: HEAD, unknown methods, lists of ETags."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from serve_app.api.app import make_app
from serve_app.api.v1 import is_known
from tests.support.forecasts import make_forecast
from tests.support.gateway_parts import AnyToken, OneAnswer

NO_POSTGRES = "postgresql://nobody:nothing@127.0.0.1:9/none"
OTHER_PATHS = ["/docs", "/openapi.json", "/static-offline-docs/swagger-ui-bundle.js", "/nothing", "/predict"]


@pytest.fixture(scope="module")
def app() -> FastAPI:
    settings = Settings(pairs=("btc_usdt",))
    now_ms = time.time_ns() // 1_000_000
    document = make_forecast("btc_usdt", as_of_ms=now_ms).document(settings, now_ms=now_ms)
    app = make_app(settings, OneAnswer(document), Accounts(Database(NO_POSTGRES)))
    app.state.tokens = AnyToken()
    app.state.service.count_call = _no_headers
    app.state.service.check_quota = _no_headers
    return app


@pytest.fixture(scope="module")
def etag(app: FastAPI) -> str:
    return str(send(app, "GET", "/v1/forecasts/btc_usdt").headers["ETag"])


def send(app: FastAPI, method: str, path: str, **headers: str) -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.request(method, path, headers={"Authorization": "Bearer mur_any"} | headers)

    return asyncio.run(call())


def test_head_is_get_without_the_body_on_every_path(app: FastAPI) -> None:
    routes = [route for route in app.routes if isinstance(route, APIRoute) and "GET" in route.methods]
    paths = [route.path.replace("{pair}", "btc_usdt") for route in routes]
    assert len(paths) > 10
    for path in [*paths, *OTHER_PATHS]:
        got, head = send(app, "GET", path), send(app, "HEAD", path)
        assert (head.status_code, head.headers) == (got.status_code, got.headers), path
        assert head.content == b"", path


@pytest.mark.parametrize("method", ["FOO", "TRACE", "PATCH", "PROPFIND", "CONNECT"])
@pytest.mark.parametrize("path", ["/healthz", "/v1/forecasts/btc_usdt", "/predict"])
def test_another_method_is_refused_and_the_answer_lists_those_of_the_path(app: FastAPI, method: str, path: str) -> None:
    answer = send(app, method, path)
    assert answer.status_code == 405
    assert answer.headers["Content-Type"] == "application/problem+json"
    allowed = {"/healthz": "GET, HEAD", "/v1/forecasts/btc_usdt": "GET, HEAD, POST", "/predict": "PUT"}
    assert answer.headers["Allow"] == allowed[path]


@pytest.mark.parametrize("form", ["{}", "*", ' "x" , {}', '{},"x"', '"x",\t{}', " {} ", '"a,b", {}', "{strong}"])
def test_a_known_etag_in_any_form_is_answered_304(app: FastAPI, etag: str, form: str) -> None:
    header = form.format(etag, strong=etag.removeprefix("W/"))
    answer = send(app, "GET", "/v1/forecasts/btc_usdt", **{"If-None-Match": header})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == etag


@pytest.mark.parametrize("header", ["", '"x"', 'W/"x", W/"y"', '"*"', "x", '"', "W/", "**"])
def test_another_etag_is_answered_with_the_forecast(app: FastAPI, etag: str, header: str) -> None:
    assert send(app, "GET", "/v1/forecasts/btc_usdt", **{"If-None-Match": header}).status_code == 200
    assert not is_known(header, etag)


def test_several_lines_of_a_header_are_one_list(app: FastAPI, etag: str) -> None:
    async def call() -> httpx.Response:
        headers = [("Authorization", "Bearer mur_any"), ("If-None-Match", '"x"'), ("If-None-Match", etag)]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            return await client.get("/v1/forecasts/btc_usdt", headers=headers)

    assert asyncio.run(call()).status_code == 304


def test_the_etag_of_some_horizons_is_another_one(app: FastAPI, etag: str) -> None:
    answer = send(app, "GET", "/v1/forecasts/btc_usdt?horizons=1", **{"If-None-Match": etag})
    assert answer.status_code == 200


async def _no_headers(_: TokenOwner) -> dict[str, str]:
    return {}
