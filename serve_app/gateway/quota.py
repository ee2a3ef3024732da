"""Counts calls: one statement for all calls of an owner that wait at the same moment."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.core.errors import QuotaExceeded
from make_us_rich.database.connection import AWAY

_log = logging.getLogger("ray.serve")

GRACE_S = 60.0
_MOST_AT_ONCE = 64
_TRY_AGAIN_S = 1.0
# How long the calls of an owner who makes several at once gather: a statement costs more than many answers from memory.
_GATHER_S = 0.01

Call = asyncio.Future[int | None]


class QuotaCounter:
    """Exact however many call at once and over several gateways: Postgres alone decides who gets the last call.

    While one statement of an owner is on its way, their next calls gather, and go together in the one after it.
    While Postgres does not answer, calls pass for GRACE_S and are counted when it is back. Any other error reaches the
    callers whom it concerns, and nothing is tried again for them.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._waiting: defaultdict[int, list[Call]] = defaultdict(list)
        self._owed: defaultdict[int, int] = defaultdict(int)
        self._counting: dict[int, asyncio.Task[None]] = {}

    async def count(self, owner: TokenOwner) -> int | None:
        """Take one call of the month. Returns how many remain; None while that cannot be known.

        Raises QuotaExceeded, UnknownToken when the account is gone, psycopg2.OperationalError when Postgres was away
        for longer than the grace.
        """
        call: Call = asyncio.get_running_loop().create_future()
        self._waiting[owner.user_id].append(call)
        if owner.user_id not in self._counting:
            self._counting[owner.user_id] = asyncio.create_task(self._count_all(owner))
        return await call

    async def _count_all(self, owner: TokenOwner) -> None:
        user = owner.user_id
        away_since = None
        try:
            while (waiting := self._waiting.pop(user, [])) or self._owed[user]:
                calls, self._waiting[user] = waiting[:_MOST_AT_ONCE], waiting[_MOST_AT_ONCE:]
                try:
                    await self._repay(owner)
                    await self._count_some(owner, calls)
                    away_since = None
                    if len(calls) > 1:
                        await asyncio.sleep(_GATHER_S)
                except AWAY as error:
                    if away_since is None:
                        away_since = time.monotonic()
                        _log.warning("user %d: calls are counted when Postgres is back: %s", user, error)
                    if time.monotonic() - away_since < GRACE_S:
                        self._owed[user] += _settle(calls, None)
                    else:
                        _settle(calls, error)
                    await asyncio.sleep(0 if self._waiting[user] else _TRY_AGAIN_S)
                except Exception as error:  # as of an account that is gone; whoever waits for it is told
                    if lost := self._owed.pop(user, 0):
                        _log.error("user %d: %d calls will not be counted: %s", user, lost, error)
                    _settle(calls, error)
        finally:
            del self._counting[user]

    async def _repay(self, owner: TokenOwner) -> None:
        """Count what passed while Postgres was away; what no longer fits the month is let go."""
        part = self._owed[owner.user_id]
        while part:
            try:
                await asyncio.to_thread(self._accounts.consume, owner, part)
                self._owed[owner.user_id] -= part
            except QuotaExceeded:
                part //= 2
            part = min(part, self._owed[owner.user_id])
        self._owed[owner.user_id] = 0

    async def _count_some(self, owner: TokenOwner, calls: list[Call]) -> None:
        if not calls:
            return
        try:
            remaining = await asyncio.to_thread(self._accounts.consume, owner, len(calls))
        except QuotaExceeded as error:
            usage = await asyncio.to_thread(self._accounts.usage, owner)
            fitting = max(0, min(owner.monthly_calls - usage.used, len(calls) - 1))
            _settle(calls[fitting:], error)
            await self._count_some(owner, calls[:fitting])
        else:
            _settle(calls, remaining)


def _settle(calls: list[Call], outcome: int | Exception | None) -> int:
    """Answer those that still wait; gives how many that were."""
    waiting = [call for call in calls if not call.done()]
    for call in waiting:
        if isinstance(outcome, Exception):
            call.set_exception(outcome)
        else:
            call.set_result(outcome)
    return len(waiting)
