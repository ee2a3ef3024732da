"""Who calls, and whether they may call this often."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import Annotated

import psycopg2
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.errors import UnknownToken
from serve_app.envelope import CALLER
from serve_app.meter import GRACE_S
from serve_app.metrics import GatewayMetrics
from serve_app.problems import Problem, rate_problem
from serve_app.rate_limit import RateLimit

# How long a revoked token may still be accepted: the price of one query a token and half minute instead of a call.
_REMEMBER_S = 30.0
_MOST_REMEMBERED = 10_000


class TokenBook:
    """Token owners by the token's digest; a plaintext token is never kept."""

    def __init__(self, accounts: Accounts, rate_limit: RateLimit, metrics: GatewayMetrics) -> None:
        self._accounts = accounts
        self._metrics = metrics
        self._rate_limit = rate_limit
        self._known: OrderedDict[bytes, tuple[float, TokenOwner]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[TokenOwner]] = {}

    async def admit(self, plaintext: str) -> TokenOwner:
        """The token's owner. Raises UnknownToken, or Problem 429 when a member calls too often."""
        digest = hashlib.sha256(plaintext.encode()).digest()
        until, owner = self._known.get(digest, (0.0, None))
        if owner is None or time.monotonic() >= until:
            owner = await self._ask_once(digest, plaintext)
        wait_s = 0 if owner.is_admin else self._rate_limit.take(owner.user_id)
        if wait_s:
            self._metrics.refused("minute")
            raise rate_problem(wait_s)
        return owner

    async def _ask_once(self, digest: bytes, plaintext: str) -> TokenOwner:
        """One query, however many calls wait for its answer."""
        if digest not in self._asking:
            self._asking[digest] = asyncio.create_task(self._ask(digest, plaintext))
        return await asyncio.shield(self._asking[digest])

    async def _ask(self, digest: bytes, plaintext: str) -> TokenOwner:
        until, known = self._known.get(digest, (0.0, None))
        try:
            owner = await asyncio.to_thread(self._accounts.find_token, plaintext)
        except UnknownToken:
            self._known.pop(digest, None)
            raise
        except psycopg2.Error:
            # Postgres is away: those known a moment ago may pass, nobody else.
            if known is None or time.monotonic() >= until + GRACE_S:
                raise
            return known
        else:
            self._known[digest] = (time.monotonic() + _REMEMBER_S, owner)
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
            return owner
        finally:
            del self._asking[digest]


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
        book: TokenBook = request.app.state.tokens
        owner = await book.admit(plaintext)
        request.scope[CALLER] = owner.user_id
        return owner


bearer_token = _BearerToken()
Caller = Annotated[TokenOwner, Depends(bearer_token)]
CallerByHeaderOrQuery = Annotated[TokenOwner, Depends(_BearerToken(or_query=True))]


async def _admin(caller: Caller) -> TokenOwner:
    if not caller.is_admin:
        raise Problem(403, "admins-only", "this needs an admin's token")
    return caller


Admin = Annotated[TokenOwner, Depends(_admin)]
