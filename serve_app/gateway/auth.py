"""Who calls, and whether they may call this often."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from itertools import islice
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.accounts.tokens import UNKNOWN, digest
from make_us_rich.core.errors import UnknownToken
from make_us_rich.database.connection import AWAY
from serve_app.api.middleware import CALLER
from serve_app.api.problems import Problem, rate_problem
from serve_app.gateway.quota import GRACE_S
from serve_app.metrics import GatewayMetrics

# How long a revoked token may still be accepted: the price of one query a token and half minute instead of a call.
_REMEMBER_S = 30.0
_MOST_REMEMBERED = 10_000
_MOST_AT_ONCE = 500
# Between two queries when tokens were unknown: whoever invents tokens costs twenty reads a second, however many calls.
_PAUSE_S = 0.05

Outcome = TokenOwner | Exception | None
"""None for an unknown token."""
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


class TokenCache:
    """Token owners by the token's digest; a plaintext token is never kept."""

    def __init__(self, accounts: Accounts, rate_limit: RateLimit, metrics: GatewayMetrics) -> None:
        self._accounts = accounts
        self._metrics = metrics
        self._rate_limit = rate_limit
        self._known: OrderedDict[bytes, tuple[float, TokenOwner]] = OrderedDict()
        self._asked: dict[bytes, asyncio.Future[Outcome]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def admit(self, plaintext: str) -> TokenOwner:
        """The token's owner. Raises UnknownToken, or Problem 429 when a member calls too often."""
        key = digest(plaintext)
        until, owner = self._known.get(key, (0.0, None))
        if owner is None or time.monotonic() >= until:
            owner = await self._ask_once(key)
        wait_s = 0 if owner.is_admin or owner.is_dashboard else self._rate_limit.take(owner.user_id)
        if wait_s:
            self._metrics.refused("minute")
            raise rate_problem(wait_s)
        return owner

    async def _ask_once(self, key: bytes) -> TokenOwner:
        """One query for all tokens that wait at the same moment, however many calls came with each."""
        if key not in self._asked:
            self._asked[key] = asyncio.get_running_loop().create_future()
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask_all())
        outcome = await asyncio.shield(self._asked[key])
        if outcome is None:
            raise UnknownToken(UNKNOWN)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _ask_all(self) -> None:
        try:
            while self._asked:
                keys = list(islice(self._asked, _MOST_AT_ONCE))
                outcomes = await self._ask(keys)
                for key in keys:
                    self._asked.pop(key).set_result(outcomes[key])
                if None in outcomes.values():
                    await asyncio.sleep(_PAUSE_S)
        finally:
            self._asking = None

    async def _ask(self, keys: list[bytes]) -> dict[bytes, Outcome]:
        now = time.monotonic()
        try:
            found = await asyncio.to_thread(self._accounts.find_tokens, keys)
        except AWAY as error:
            known = {key: self._known.get(key, (0.0, None)) for key in keys}
            return {key: owner if owner and now < until + GRACE_S else error for key, (until, owner) in known.items()}
        except Exception as error:
            return dict.fromkeys(keys, error)
        for key in keys:
            self._known.pop(key, None)
            if key in found:
                self._known[key] = (now + _REMEMBER_S, found[key])
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return {key: found.get(key) for key in keys}


class _BearerToken(HTTPBearer):
    """Itself the dependency, so that OpenAPI knows the scheme and a call pays for one step."""

    def __init__(self, *, or_query: bool = False) -> None:
        description = "the API token of the dashboard's API page"
        super().__init__(scheme_name="token", description=description, auto_error=False)
        self._or_query = or_query

    async def __call__(self, request: Request) -> TokenOwner:  # type: ignore[override]
        scheme, _, plaintext = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            plaintext = request.query_params.get("token", "") if self._or_query else ""
        if not plaintext:
            raise UnknownToken("no token: send the header 'Authorization: Bearer TOKEN'")
        book: TokenCache = request.app.state.tokens
        owner = await book.admit(plaintext)
        if owner.is_dashboard and (request.method, request.scope["route"].path) not in _FOR_DASHBOARD:
            raise Problem(403, "not-for-the-dashboard", "the dashboard's token is not for this: use your own")
        request.scope[CALLER] = owner.user_id
        return owner


bearer_token = _BearerToken()
Caller = Annotated[TokenOwner, Depends(bearer_token)]
CallerByHeaderOrQuery = Annotated[TokenOwner, Depends(_BearerToken(or_query=True))]


async def _admin(caller: Caller) -> TokenOwner:
    if not caller.is_admin:
        raise Problem(403, "admins-only", "this needs an admin's token")
    return caller


async def _admin_or_dashboard(caller: Caller) -> TokenOwner:
    """An admin goes back to a model on the dashboard, which then lets the service swap to it."""
    return caller if caller.is_dashboard else await _admin(caller)


Admin = Annotated[TokenOwner, Depends(_admin)]
AdminOrDashboard = Annotated[TokenOwner, Depends(_admin_or_dashboard)]


_MINUTE_S = 60.0


class RateLimit:
    """A bucket a user: holds a minute's calls, and fills again evenly over a minute."""

    def __init__(self, calls_per_minute: int) -> None:
        self._size = float(calls_per_minute)
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def take(self, user_id: int) -> int:
        """Take one call. Returns 0, or in how many seconds the next one is allowed."""
        now = time.monotonic()
        left, at = self._buckets.pop(user_id, (self._size, now))
        left = min(self._size, left + (now - at) * self._size / _MINUTE_S)
        allowed = left >= 1
        self._buckets[user_id] = (left - allowed, now)
        if len(self._buckets) > _MOST_REMEMBERED:
            self._buckets.popitem(last=False)
        return 0 if allowed else math.ceil((1 - left) * _MINUTE_S / self._size)
