"""The ASGI application in front of all pairs, and the middleware around every request."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from make_us_rich import __version__
from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.database.pool import Database
from serve_app import problems
from serve_app.api import first_version, v1
from serve_app.api.dependencies import CALLER
from serve_app.api.openapi import complete_openapi
from serve_app.gateway.callers import RateLimiter, TokenCache
from serve_app.gateway.forecast_service import ForecastService
from serve_app.gateway.replica_client import ReplicaClient, ServeReplicaClient
from serve_app.metrics import GatewayMetrics
from serve_app.problems import Problem

_log = logging.getLogger("ray.serve.requests")
_log.setLevel(logging.INFO)  # independent of the level of Serve's own records

MOST_BODY_BYTES = 1_000_000
_VERSION = (b"x-service-version", __version__.encode())
# Ray Serve adds the ids of actor, node and task to each record unless it has this, which takes time at each call.
_WITHOUT_RAY_CONTEXT = {"skip_context_filter": True}

_DESCRIPTION = """
The next close of a pair as a distribution, from a model that is trained every hour and promoted only when it is better.

Calls need a token (`Authorization: Bearer TOKEN`, from the dashboard's token page). A forecast costs one call of the
month; an answer that is an error costs nothing. Errors are `application/problem+json`.
"""


def create_app() -> FastAPI:
    """Return the application that Ray Serve runs in each replica of the gateway."""
    settings = get_settings()
    return make_app(settings, ServeReplicaClient(), Accounts(Database.from_settings(settings)))


def make_app(settings: Settings, replicas: ReplicaClient, accounts: Accounts) -> FastAPI:
    """Return the application; it closes `accounts` when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with accounts:
            yield

    app = FastAPIOffline(  # its /docs loads nothing from another host
        title="Make Us Rich",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would name the Host header that the caller sent
    )
    app.state.settings = settings
    metrics = GatewayMetrics()
    app.state.tokens = TokenCache(accounts, RateLimiter(settings.calls_per_minute), metrics)
    app.state.service = ForecastService(settings, replicas, accounts, metrics)
    problems.install(app)
    app.add_middleware(RequestMiddleware, metrics=metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "PUT"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match"],
            expose_headers=[
                "ETag",
                "Retry-After",
                "RateLimit-Limit",
                "RateLimit-Remaining",
                "RateLimit-Reset",
                "X-Model-Version",
                "X-Request-ID",
                "X-Service-Version",
            ],
        )
    app.include_router(v1.router)
    app.include_router(first_version.router)
    complete_openapi(app, settings)
    return app


class RequestMiddleware:
    """Plain ASGI, because Starlette's decorator for middleware costs a task and two queues for each request."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = scope["method"]
        if asked == "HEAD":  # the answer to GET without its body, on every route
            scope = {**scope, "method": "GET"}
        status = 500
        started = time.perf_counter()

        async def send_with_version(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append(_VERSION)
            elif asked == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._answer(scope, receive, send_with_version)
        finally:
            self._log_and_count({**scope, "method": asked}, status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        announced = Headers(scope=scope).get("content-length", "")
        if re.fullmatch("[0-9]{1,20}", announced) and int(announced) > MOST_BODY_BYTES:
            await _too_large().response()(scope, receive, send)
        else:
            await self._app(scope, _limited(receive), send)

    def _log_and_count(self, scope: Scope, status: int, seconds: float) -> None:
        """Log the route, never the query, which may hold a token; log the pair only when there is such a pair."""
        route = getattr(scope.get("route"), "path", "unmatched")
        fields = {"method": scope["method"], "path": route, "status": status, "ms": round(seconds * 1000, 1)}
        fields |= {"caller": scope.get(CALLER), "request_id": Headers(scope=scope).get("X-Request-ID")}
        self._metrics.request_answered(route, status)
        pair = scope.get("path_params", {}).get("pair")
        if pair is not None and status < HTTPStatus.BAD_REQUEST:
            fields["pair"] = pair
            self._metrics.pair_answered(pair, seconds)
        level = logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        _log.log(level, "request", extra=fields | _WITHOUT_RAY_CONTEXT)


def _too_large() -> Problem:
    return Problem(413, "body-too-large", f"send at most {MOST_BODY_BYTES} bytes", field="body")


def _limited(receive: Receive) -> Receive:
    """Return a `receive` that raises Problem 413 for a body that is too large and did not announce it."""
    read = 0

    async def receive_limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BODY_BYTES:
            raise _too_large()
        return message

    return receive_limited
