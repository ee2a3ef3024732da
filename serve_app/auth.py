"""Who calls, and whether they may call this often."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import Annotated

import psycopg2
from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.errors import UnknownToken
from serve_app.meter import GRACE_S
from serve_app.problems import Problem, rate_problem
from serve_app.rate_limit import RateLimit

# How long a revoked token may still be accepted: the price of one query a token and half minute instead of a call.
_REMEMBER_S = 30.0
_MOST_REMEMBERED = 10_000

_bearer = HTTPBearer(auto_error=False, description="the API token of the dashboard's API page")


class TokenBook:
    """Token owners by the token's digest; a plaintext token is never kept."""

    def __init__(self, accounts: Accounts, rate_limit: RateLimit) -> None:
        self._accounts = accounts
        self._rate_limit = rate_limit
        self._owners: OrderedDict[bytes, tuple[float, TokenOwner]] = OrderedDict()

    async def admit(self, plaintext: str) -> TokenOwner:
        """The token's owner. Raises UnknownToken, or Problem 429 when a member calls too often."""
        owner = await self._owner(plaintext)
        wait_s = 0 if owner.is_admin else self._rate_limit.take(owner.user_id)
        if wait_s:
            raise rate_problem(wait_s)
        return owner

    async def _owner(self, plaintext: str) -> TokenOwner:
        digest = hashlib.sha256(plaintext.encode()).digest()
        until, known = self._owners.pop(digest, (0.0, None))
        if known is None or time.monotonic() >= until:
            try:
                known = await asyncio.to_thread(self._accounts.find_token, plaintext)
                until = time.monotonic() + _REMEMBER_S
            except psycopg2.Error:
                # Postgres is away: those known a moment ago may pass, nobody else.
                if known is None or time.monotonic() >= until + GRACE_S:
                    raise
        self._owners[digest] = (until, known)
        if len(self._owners) > _MOST_REMEMBERED:
            self._owners.popitem(last=False)
        return known


async def caller(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> TokenOwner:
    """The owner of the bearer token."""
    return await _admit(request, credentials.credentials if credentials else None)


async def caller_by_header_or_query(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    token: Annotated[str | None, Query(description="instead of the bearer header; ends up in logs")] = None,
) -> TokenOwner:
    return await _admit(request, credentials.credentials if credentials else token)


async def _admit(request: Request, plaintext: str | None) -> TokenOwner:
    if not plaintext:
        raise UnknownToken("no token: send the header 'Authorization: Bearer TOKEN'")
    book: TokenBook = request.app.state.tokens
    return await book.admit(plaintext)


Caller = Annotated[TokenOwner, Depends(caller)]
CallerByHeaderOrQuery = Annotated[TokenOwner, Depends(caller_by_header_or_query)]


async def _admin(caller: Caller) -> TokenOwner:
    if not caller.is_admin:
        raise Problem(403, "admins-only", "this needs an admin's token")
    return caller


Admin = Annotated[TokenOwner, Depends(_admin)]
