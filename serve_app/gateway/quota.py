"""Counts calls against the monthly quota, with one statement for all calls of a user that wait at the same moment."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import defaultdict

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.core.errors import QuotaExceeded
from make_us_rich.database.connection import POSTGRES_UNAVAILABLE
from serve_app.problems import Problem

_log = logging.getLogger("ray.serve")

GRACE_S = 60.0
"""How long calls pass uncounted while Postgres does not answer."""
_MOST_IN_A_STATEMENT = 64
_RETRY_AFTER_S = 1.0
# How long concurrent calls of one user gather: a statement costs more than many cached answers.
_GATHER_S = 0.01

Call = asyncio.Future[int | None]


class QuotaCounter:
    """Exact for any number of concurrent calls and gateways: Postgres alone decides who gets the last call.

    While a statement of one user runs, their next calls gather, and the next statement counts them together. While
    Postgres does not answer, calls pass for GRACE_S and are counted when it is back. Any other error is raised to the
    callers concerned, without a retry.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._pending: defaultdict[int, list[Call]] = defaultdict(list)
        self._uncounted: defaultdict[int, int] = defaultdict(int)
        self._counting: dict[int, asyncio.Task[None]] = {}

    async def count(self, owner: TokenOwner) -> int | None:
        """Count one call of the month. Returns how many remain; None while Postgres does not answer.

        Raises QuotaExceeded, UnknownToken when the account is gone, psycopg2.OperationalError when Postgres was away
        for longer than GRACE_S.
        """
        call: Call = asyncio.get_running_loop().create_future()
        self._pending[owner.user_id].append(call)
        if owner.user_id not in self._counting:
            self._counting[owner.user_id] = asyncio.create_task(self._count_pending(owner))
        return await call

    async def _count_pending(self, owner: TokenOwner) -> None:
        user = owner.user_id
        away_since = None
        try:
            while (pending := self._pending.pop(user, [])) or self._uncounted[user]:
                calls, self._pending[user] = pending[:_MOST_IN_A_STATEMENT], pending[_MOST_IN_A_STATEMENT:]
                try:
                    await self._count_uncounted(owner)
                    await self._count_calls(owner, calls)
                    away_since = None
                    if len(calls) > 1:
                        await asyncio.sleep(_GATHER_S)
                except POSTGRES_UNAVAILABLE as error:
                    if away_since is None:
                        away_since = time.monotonic()
                        _log.warning("user %d: calls are counted when Postgres is back: %s", user, error)
                    if time.monotonic() - away_since < GRACE_S:
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

    async def _count_uncounted(self, owner: TokenOwner) -> None:
        """Count the calls that passed while Postgres was away; those beyond the month's quota are dropped."""
        part = self._uncounted[owner.user_id]
        while part:
            try:
                await asyncio.to_thread(self._accounts.quota.consume, owner, part)
                self._uncounted[owner.user_id] -= part
            except QuotaExceeded:
                part //= 2
            part = min(part, self._uncounted[owner.user_id])
        self._uncounted[owner.user_id] = 0

    async def _count_calls(self, owner: TokenOwner, calls: list[Call]) -> None:
        if not calls:
            return
        try:
            remaining = await asyncio.to_thread(self._accounts.quota.consume, owner, len(calls))
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
