"""The callers: the owner of each token, the rate limit of each user, and the monthly quota."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict, defaultdict
from itertools import islice

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.accounts.tokens import TOKEN_TTL_S, UNKNOWN, digest
from make_us_rich.core.errors import QuotaExceeded, UnknownToken
from make_us_rich.database.pool import POSTGRES_UNAVAILABLE, STATEMENT_ENDED, CommitInDoubt
from serve_app.metrics import GatewayMetrics
from serve_app.problems import Problem

_log = logging.getLogger("ray.serve")

_CAPACITY = 10_000
_MOST_IN_A_QUERY = 500
# After a query with unknown tokens: invented tokens cost at most twenty queries a second, however many calls come.
_PAUSE_AFTER_UNKNOWN_S = 0.05
_MINUTE_S = 60.0
# While Postgres does not answer: how long an expired token is accepted, and calls pass uncounted.
_GRACE_S = 60.0
_MOST_IN_A_STATEMENT = 64
_RETRY_AFTER_S = 1.0
# How long concurrent calls of one user gather: a statement costs more than many cached answers.
_GATHER_S = 0.01

Call = asyncio.Future[int | None]
Found = TokenOwner | Exception | None
"""None for an unknown token."""


class TokenCache:
    """Caches token owners by the token's digest; a plaintext token is never kept.

    While Postgres is known not to answer, an expired entry is used without waiting for it, for _GRACE_S at most.
    """

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
        now = time.monotonic()
        if owner is None or now >= expires_at:
            found = self._find(key)
            if owner is None or now >= expires_at + _GRACE_S or self._accounts.database.away_since is None:
                owner = _known(await found)
        wait_s = 0 if owner.is_admin or owner.is_dashboard else self._rate_limiter.acquire(owner.user_id)
        if wait_s:
            self._metrics.quota_refused("minute")
            detail = f"too many calls within a minute: wait {wait_s} s"
            raise Problem(429, "too-fast", detail, headers={"Retry-After": str(wait_s)})
        return owner

    def _find(self, key: bytes) -> asyncio.Future[Found]:
        """Single-flight: one query finds all tokens that wait at the same moment, however many calls wait for each."""
        if key not in self._pending:
            self._pending[key] = asyncio.get_running_loop().create_future()
            if self._querying is None:
                self._querying = asyncio.create_task(self._query_pending())
        return asyncio.shield(self._pending[key])

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
                key: owner if owner and now < expires_at + _GRACE_S else error
                for key, (expires_at, owner) in cached.items()
            }
        except Exception as error:  # it reaches every caller who waits for it
            return dict.fromkeys(keys, error)
        for key in keys:
            self._cached.pop(key, None)
            if key in found:
                self._cached[key] = (now + TOKEN_TTL_S, found[key])
        while len(self._cached) > _CAPACITY:
            self._cached.popitem(last=False)
        return {key: found.get(key) for key in keys}


def _known(found: Found) -> TokenOwner:
    if found is None:
        raise UnknownToken(UNKNOWN)
    if isinstance(found, Exception):
        raise found
    return found


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


class QuotaCounter:
    """Exact for any number of concurrent calls and gateways: Postgres alone decides who gets the last call.

    While a statement of one user runs, their next calls gather, and the next statement counts them together. Calls that
    a slow statement could not count pass within the quota, and the next statement counts them. While Postgres does not
    answer, calls pass for _GRACE_S, without waiting once this is known, and are counted when it is back. A statement
    whose answer was lost is not repeated before Postgres says whether it counted. Any other error is raised to the
    callers concerned, without a retry.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._pending: defaultdict[int, list[Call]] = defaultdict(list)
        self._uncounted: defaultdict[int, int] = defaultdict(int)
        self._in_doubt: dict[int, tuple[str, int]] = {}  # the transaction whose answer was lost, and its calls
        self._counting: dict[int, asyncio.Task[None]] = {}

    async def count(self, owner: TokenOwner) -> int | None:
        """Count one call of the month. Returns how many remain; None while Postgres does not answer.

        Raises QuotaExceeded, UnknownToken when the account is gone, psycopg2.OperationalError when Postgres was away
        for longer than _GRACE_S.
        """
        call: Call = asyncio.get_running_loop().create_future()
        if self.passes_uncounted:
            self._uncounted[owner.user_id] += 1
            call.set_result(None)
        else:
            self._pending[owner.user_id].append(call)
        if owner.user_id not in self._counting:
            self._counting[owner.user_id] = asyncio.create_task(self._count_pending(owner))
        return await call

    @property
    def passes_uncounted(self) -> bool:
        """True within the grace of a Postgres that is known not to answer."""
        away_since = self._accounts.database.away_since
        return away_since is not None and time.monotonic() < away_since + _GRACE_S

    async def _count_pending(self, owner: TokenOwner) -> None:
        user = owner.user_id
        away_since = None
        try:
            while (pending := self._pending.pop(user, [])) or self._uncounted[user] or user in self._in_doubt:
                calls, self._pending[user] = pending[:_MOST_IN_A_STATEMENT], pending[_MOST_IN_A_STATEMENT:]
                try:
                    await self._count(owner, calls)
                    away_since = None
                    if len(calls) > 1:
                        await asyncio.sleep(_GATHER_S)
                except POSTGRES_UNAVAILABLE as error:
                    if away_since is None:
                        away_since = time.monotonic()
                        _log.warning("user %d: calls are counted when Postgres is back: %s", user, error)
                    if time.monotonic() - away_since < _GRACE_S:
                        self._uncounted[user] += _resolve(calls, None)
                    else:
                        _resolve(calls, error)
                    await asyncio.sleep(0 if self._pending[user] else _RETRY_AFTER_S)
                except Exception as error:  # such as a deleted account; it is raised to those who wait
                    if lost := self._uncounted.pop(user, 0):
                        _log.error("user %d: %d calls will not be counted: %s", user, lost, error)
                    _resolve(calls, error)
        finally:
            del self._counting[user]

    async def _count(self, owner: TokenOwner, calls: list[Call]) -> None:
        try:
            await self._settle(owner.user_id)
            await self._count_uncounted(owner)
            await self._count_calls(owner, calls)
        except STATEMENT_ENDED as error:  # Postgres answers: this is no outage
            _log.warning(
                "user %d: a slow statement counted no call, the next one counts them: %s", owner.user_id, error
            )
            await self._pass_within_quota(owner, calls)

    async def _pass_within_quota(self, owner: TokenOwner, calls: list[Call]) -> None:
        """Let calls pass that could not be counted, as many as the month has left. Reading waits for no lock."""
        usage = await asyncio.to_thread(self._accounts.quota.usage, owner.user_id)
        left = max(0, owner.monthly_calls - usage.used - self._uncounted[owner.user_id])
        message = f"all {owner.monthly_calls} calls of this month are used"
        _resolve(calls[left:], QuotaExceeded(message, limit=owner.monthly_calls, resets_at=usage.resets_at))
        self._uncounted[owner.user_id] += _resolve(calls[:left], None)
        await asyncio.sleep(0 if self._pending[owner.user_id] else _RETRY_AFTER_S)

    async def _settle(self, user: int) -> None:
        """Find out whether the statement counted whose answer was lost. Raises CommitInDoubt while it still runs."""
        if user in self._in_doubt:
            transaction_id, calls = self._in_doubt[user]
            if not await asyncio.to_thread(self._accounts.quota.was_counted, transaction_id):
                self._uncounted[user] += calls
            del self._in_doubt[user]

    async def _consume(self, owner: TokenOwner, calls: int) -> int:
        try:
            return await asyncio.to_thread(self._accounts.quota.consume, owner, calls)
        except CommitInDoubt as error:
            if error.transaction_id:
                self._in_doubt[owner.user_id] = error.transaction_id, calls
            raise

    async def _count_uncounted(self, owner: TokenOwner) -> None:
        """Count the calls that passed while Postgres was away; those beyond the month's quota are dropped."""
        part = self._uncounted[owner.user_id]
        while part:
            try:
                await self._consume(owner, part)
                self._uncounted[owner.user_id] -= part
            except CommitInDoubt:
                self._uncounted[owner.user_id] -= part
                raise
            except QuotaExceeded:
                part //= 2
            part = min(part, self._uncounted[owner.user_id])
        self._uncounted[owner.user_id] = 0

    async def _count_calls(self, owner: TokenOwner, calls: list[Call]) -> None:
        if not calls:
            return
        try:
            remaining = await self._consume(owner, len(calls))
        except CommitInDoubt:
            _resolve(calls, None)
            raise
        except QuotaExceeded as error:
            usage = await asyncio.to_thread(self._accounts.quota.usage, owner.user_id)
            fitting = max(0, min(owner.monthly_calls - usage.used, len(calls) - 1))
            _resolve(calls[fitting:], error)
            await self._count_calls(owner, calls[:fitting])
        else:
            _resolve(calls, remaining)


def _resolve(calls: list[Call], outcome: int | Exception | None) -> int:
    """Give the outcome to the calls whose callers still wait; returns how many those were."""
    waiting = [call for call in calls if not call.done()]
    for call in waiting:
        if isinstance(outcome, Exception):
            call.set_exception(outcome)
        else:
            call.set_result(outcome)
    return len(waiting)


def quota_headers(limit: int, remaining: int, reset_s: int) -> dict[str, str]:
    return {"RateLimit-Limit": str(limit), "RateLimit-Remaining": str(remaining), "RateLimit-Reset": str(reset_s)}


def quota_problem(error: QuotaExceeded) -> Problem:
    """Return a Problem 429: the month's calls are used."""
    seconds = max(1, math.ceil(error.resets_at.timestamp() - time.time()))
    headers = {"Retry-After": str(seconds)} | quota_headers(error.limit, 0, seconds)
    detail = f"all {error.limit} calls of the month are used; calls are allowed again at {error.resets_at.isoformat()}"
    return Problem(429, "quota-exceeded", detail, headers=headers)
