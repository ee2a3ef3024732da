"""The ASGI application in front of all pairs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline

from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.database.pool import Database
from serve_app import problems
from serve_app.api import first_version, v1
from serve_app.api.middleware import RequestMiddleware
from serve_app.gateway.auth import RateLimiter, TokenCache
from serve_app.gateway.forecast_service import ForecastService
from serve_app.gateway.replica_client import ReplicaClient, ServeReplicaClient
from serve_app.metrics import GatewayMetrics

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
    app = FastAPIOffline(  # its /docs loads nothing from another host
        title="Make Us Rich",
        version="1",
        description=_DESCRIPTION,
        lifespan=_closing(accounts),
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
            allow_methods=["GET", "POST", "PUT"],
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
    return app


def _closing(accounts: Accounts) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with accounts:
            yield

    return lifespan
