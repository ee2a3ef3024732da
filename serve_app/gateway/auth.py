"""Token owners from Postgres, cached, and the rate limit of each user."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from itertools import islice

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.accounts.tokens import UNKNOWN, digest
from make_us_rich.core.errors import UnknownToken
from make_us_rich.database.connection import POSTGRES_UNAVAILABLE
from serve_app.gateway.quota import GRACE_S
from serve_app.metrics import GatewayMetrics
from serve_app.problems import rate_problem

# How long a revoked token may still be accepted, for one query instead of one a call.
_TTL_S = 30.0
_CAPACITY = 10_000
_MOST_IN_A_QUERY = 500
# After a query with unknown tokens: invented tokens cost at most twenty queries a second, however many calls come.
_PAUSE_AFTER_UNKNOWN_S = 0.05
_MINUTE_S = 60.0

Found = TokenOwner | Exception | None
"""None for an unknown token."""


class TokenCache:
    """Caches token owners by the token's digest; a plaintext token is never kept."""

    def __init__(self, accounts: Accounts, rate_limiter: RateLimiter, metrics: GatewayMetrics) -> None:
        self._accounts = accounts
        self._metrics = metrics
        self._rate_limiter = rate_limiter
        self._cached: OrderedDict[bytes, tuple[float, TokenOwner]] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[Found]] = {}
        self._querying: asyncio.Task[None] | None = None

    async def authenticate(self, plaintext: str) -> TokenOwner:
        """Return the token's owner. Raises UnknownToken, or Problem 429 when a member calls too often."""
        key = digest(plaintext)
        expires_at, owner = self._cached.get(key, (0.0, None))
        if owner is None or time.monotonic() >= expires_at:
            owner = await self._find(key)
        wait_s = 0 if owner.is_admin or owner.is_dashboard else self._rate_limiter.acquire(owner.user_id)
        if wait_s:
            self._metrics.quota_refused("minute")
            raise rate_problem(wait_s)
        return owner

    async def _find(self, key: bytes) -> TokenOwner:
        """Single-flight: one query finds all tokens that wait at the same moment, however many calls wait for each."""
        if key not in self._pending:
            self._pending[key] = asyncio.get_running_loop().create_future()
            if self._querying is None:
                self._querying = asyncio.create_task(self._query_pending())
        found = await asyncio.shield(self._pending[key])
        if found is None:
            raise UnknownToken(UNKNOWN)
        if isinstance(found, Exception):
            raise found
        return found

    async def _query_pending(self) -> None:
        try:
            while self._pending:
                keys = list(islice(self._pending, _MOST_IN_A_QUERY))
                found = await self._query(keys)
                for key in keys:
                    self._pending.pop(key).set_result(found[key])
                if None in found.values():
                    await asyncio.sleep(_PAUSE_AFTER_UNKNOWN_S)
        finally:
            self._querying = None

    async def _query(self, keys: list[bytes]) -> dict[bytes, Found]:
        now = time.monotonic()
        try:
            found = await asyncio.to_thread(self._accounts.tokens.find, keys)
        except POSTGRES_UNAVAILABLE as error:  # an expired entry is accepted a little longer
            cached = {key: self._cached.get(key, (0.0, None)) for key in keys}
            return {
                key: owner if owner and now < expires_at + GRACE_S else error
                for key, (expires_at, owner) in cached.items()
            }
        except Exception as error:  # it reaches every caller who waits for it
            return dict.fromkeys(keys, error)
        for key in keys:
            self._cached.pop(key, None)
            if key in found:
                self._cached[key] = (now + _TTL_S, found[key])
        while len(self._cached) > _CAPACITY:
            self._cached.popitem(last=False)
        return {key: found.get(key) for key in keys}


class RateLimiter:
    """A token bucket for each user: it holds the calls of one minute and refills evenly within a minute."""

    def __init__(self, calls_per_minute: int) -> None:
        self._size = float(calls_per_minute)
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def acquire(self, user_id: int) -> int:
        """Take one call from the user's bucket. Returns 0, or in how many seconds the next call is allowed."""
        now = time.monotonic()
        left, at = self._buckets.pop(user_id, (self._size, now))
        left = min(self._size, left + (now - at) * self._size / _MINUTE_S)
        allowed = left >= 1
        self._buckets[user_id] = (left - allowed, now)
        if len(self._buckets) > _CAPACITY:
            self._buckets.popitem(last=False)
        return 0 if allowed else math.ceil((1 - left) * _MINUTE_S / self._size)
