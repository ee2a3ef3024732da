"""Counts calls: one statement for all calls of an owner that wait at the same moment."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.errors import QuotaExceeded

_MOST_AT_ONCE = 64


class Meter:
    """Exact however many call at once and over several gateways: Postgres alone decides who gets the last call.

    While one statement of an owner is on its way, their next calls gather, and go together in the one after it.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._waiting: defaultdict[TokenOwner, list[asyncio.Future[None]]] = defaultdict(list)
        self._counting: dict[TokenOwner, asyncio.Task[None]] = {}

    async def count(self, owner: TokenOwner) -> None:
        """Take one call of the month. Raises QuotaExceeded, or psycopg2.Error when it could not be counted."""
        counted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[owner].append(counted)
        if owner not in self._counting:
            self._counting[owner] = asyncio.create_task(self._count_all(owner))
        await counted

    async def _count_all(self, owner: TokenOwner) -> None:
        try:
            while waiting := self._waiting.pop(owner, None):
                self._waiting[owner] = waiting[_MOST_AT_ONCE:]
                await self._count_some(owner, waiting[:_MOST_AT_ONCE])
        finally:
            del self._counting[owner]

    async def _count_some(self, owner: TokenOwner, calls: list[asyncio.Future[None]]) -> None:
        try:
            await asyncio.to_thread(self._accounts.consume, owner, len(calls))
        except QuotaExceeded as error:
            if len(calls) == 1:
                _settle(calls, error)
                return
            # Some may still fit: halves find out which, first come, first served.
            half = len(calls) // 2
            await self._count_some(owner, calls[:half])
            await self._count_some(owner, calls[half:])
        except Exception as error:
            _settle(calls, error)
        else:
            _settle(calls, None)


def _settle(calls: list[asyncio.Future[None]], error: Exception | None) -> None:
    for call in calls:
        if call.cancelled():
            continue
        if error is None:
            call.set_result(None)
        else:
            call.set_exception(error)
