"""Who calls, and what that costs them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.errors import UnknownToken

# How long a revoked token may still be accepted; the price of one query a token and half minute instead of a call.
_REMEMBER_S = 30.0
_MOST_REMEMBERED = 10_000

_bearer = HTTPBearer(auto_error=False, description="the API token of the dashboard's token page")


class TokenBook:
    """Token owners by the token's digest; a plaintext token is never kept."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._owners: OrderedDict[bytes, tuple[float, TokenOwner]] = OrderedDict()

    async def owner(self, plaintext: str) -> TokenOwner:
        """Raises UnknownToken."""
        digest = hashlib.sha256(plaintext.encode()).digest()
        known = self._owners.get(digest)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        self._owners.pop(digest, None)
        owner = await asyncio.to_thread(self._accounts.find_token, plaintext)
        self._owners[digest] = (time.monotonic() + _REMEMBER_S, owner)
        if len(self._owners) > _MOST_REMEMBERED:
            self._owners.popitem(last=False)
        return owner


async def caller(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> TokenOwner:
    """The owner of the bearer token. Raises UnknownToken."""
    return await _owner(request, credentials.credentials if credentials else None)


async def caller_by_header_or_query(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    token: Annotated[str | None, Query(description="instead of the bearer header; ends up in logs")] = None,
) -> TokenOwner:
    return await _owner(request, credentials.credentials if credentials else token)


async def _owner(request: Request, plaintext: str | None) -> TokenOwner:
    if not plaintext:
        raise UnknownToken("no token: send the header 'Authorization: Bearer TOKEN'")
    book: TokenBook = request.app.state.tokens
    return await book.owner(plaintext)


Caller = Annotated[TokenOwner, Depends(caller)]
CallerByHeaderOrQuery = Annotated[TokenOwner, Depends(caller_by_header_or_query)]
