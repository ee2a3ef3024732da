"""What endpoints depend on: the service, the caller of a token, the pair of the path and what the query asks for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPBearer

from make_us_rich.accounts import TokenOwner
from make_us_rich.core.errors import InputError, UnknownToken
from make_us_rich.core.pair import SLUG, Pair
from make_us_rich.documents import HORIZONS
from serve_app.gateway.callers import TokenCache
from serve_app.gateway.forecast_service import ForecastService
from serve_app.problems import Problem

CALLER = "make_us_rich.caller"
"""The key of the caller's user id in the ASGI scope; the log line of the request has it."""

# FastAPI runs a dependency that is not `async` in a thread, at every call: all of these are.


async def forecast_service(request: Request) -> ForecastService:
    """Return the service. Raises Problem 422 for a query parameter that the endpoint does not have."""
    if request.scope["query_string"]:
        check_query(request, {field.alias for field in request.scope["route"].dependant.query_params})
    service: ForecastService = request.app.state.service
    return service


def check_query(request: Request, known: Collection[str]) -> None:
    """Raises Problem 422 for a query parameter that is not among `known`, or that is given twice."""
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name == "token" and name not in known:
            detail = "the token goes into the header 'Authorization: Bearer TOKEN'"
            raise Problem(422, "bad-input", detail, field=name)
        if name not in known:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            detail = f"{name[:40]!r} is no parameter of this endpoint: {takes}"
            raise Problem(422, "bad-input", detail, field="query")
        if given.count(name) > 1:
            raise Problem(422, "bad-input", f"{name!r} is given {given.count(name)} times: give it once", field=name)


async def _pair_in_path(
    pair: Annotated[
        str,
        Path(
            description="base_quote in lower case",
            examples=["btc_usdt"],
            json_schema_extra={"pattern": f"^{SLUG}$"},  # documented, not enforced: our own error says more
        ),
    ],
) -> Pair:
    return Pair.parse(pair)


IntervalInQuery = Annotated[str | None, Query(alias="interval", description="of the candles; by default the first one")]

ALL = "all"
_HORIZONS = {str(horizon): horizon for horizon in range(1, HORIZONS + 1)}
_PATTERN = f"({'|'.join(_HORIZONS)})"

Horizons = Annotated[
    str,
    Query(
        description="comma separated, in candles ahead; `all` that the model has",
        examples=["1,4,24"],
        json_schema_extra={"pattern": f"^({ALL}|{_PATTERN}(,{_PATTERN})*)$"},  # documented; our own error says more
    ),
]


def parse_horizons(text: str) -> tuple[int, ...] | None:
    """Return the horizons of a list such as `1,4,24`, ascending and each once; None for `all`. Raises InputError."""
    if text == ALL:
        return None
    parts = text.split(",")
    for part in parts:
        if part not in _HORIZONS:
            message = f"{part[:40]!r} is no horizon: name candles ahead from 1 to {HORIZONS}, such as horizons=1,4,24"
            raise InputError(message, field="horizons")
    return tuple(sorted({_HORIZONS[part] for part in parts}))


_FOR_DASHBOARD = frozenset(
    {
        ("GET", "/v1/forecasts/{pair}"),
        ("GET", "/v1/forecasts"),
        ("GET", "/v1/forecasts/{pair}/history"),
        ("GET", "/v1/candles/{pair}"),
        ("GET", "/v1/usage"),
        ("PUT", "/update_models"),
    }
)


class _BearerToken(HTTPBearer):
    """The dependency that finds the caller. A subclass, so that OpenAPI knows the scheme and a call takes one step."""

    def __init__(self, *, or_query: bool = False) -> None:
        description = "the API token of the dashboard's API page"
        super().__init__(scheme_name="token", description=description, auto_error=False)
        self._or_query = or_query

    async def __call__(self, request: Request) -> TokenOwner:  # type: ignore[override]
        scheme, _, plaintext = request.headers.get("Authorization", "").partition(" ")
        plaintext = plaintext.lstrip(" ")  # RFC 9110 allows several spaces
        if scheme.lower() != "bearer":
            plaintext = request.query_params.get("token", "") if self._or_query else ""
        if not plaintext:
            raise UnknownToken("no token: send the header 'Authorization: Bearer TOKEN'")
        tokens: TokenCache = request.app.state.tokens
        owner = await tokens.authenticate(plaintext)
        if owner.is_dashboard and (request.method, request.scope["route"].path) not in _FOR_DASHBOARD:
            raise Problem(403, "not-for-the-dashboard", "the dashboard's token is not for this: use your own")
        request.scope[CALLER] = owner.user_id
        return owner


bearer_token = _BearerToken()

Service = Annotated[ForecastService, Depends(forecast_service)]
PairInPath = Annotated[Pair, Depends(_pair_in_path)]
Caller = Annotated[TokenOwner, Depends(bearer_token)]
CallerByHeaderOrQuery = Annotated[TokenOwner, Depends(_BearerToken(or_query=True))]


async def _caller_with_calls(service: Service, caller: Caller) -> TokenOwner:
    await service.check_quota(caller)
    return caller


CallerWithCalls = Annotated[TokenOwner, Depends(_caller_with_calls)]
"""The caller of an endpoint whose answer costs more to make than the quota does to read."""


async def _admin(caller: Caller) -> TokenOwner:
    if not caller.is_admin:
        raise Problem(403, "admins-only", "this needs an admin's token")
    return caller


async def _admin_or_dashboard(caller: Caller) -> TokenOwner:
    """Let the dashboard through too: after an admin's rollback there, it makes the service swap models."""
    return caller if caller.is_dashboard else await _admin(caller)


Admin = Annotated[TokenOwner, Depends(_admin)]
AdminOrDashboard = Annotated[TokenOwner, Depends(_admin_or_dashboard)]
