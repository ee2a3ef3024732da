"""Quotas over a real Postgres, which goes away and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.errors import QuotaExceeded, UnknownToken
from make_us_rich.migrations import migrate
from serve_app.auth import TokenBook
from serve_app.meter import Meter
from serve_app.metrics import GatewayMetrics
from serve_app.rate_limit import RateLimit
from tests.support.folders import open_folder
from tests.support.processes import free_port
from tests.support.servers import postgres_server


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


def member(accounts: Accounts, name: str, limit: int) -> tuple[str, TokenOwner]:
    user = accounts.create_user(name, "a password for tests")
    token = accounts.create_token(user.user_id, "tests")
    found = accounts.find_token(token)
    return token, TokenOwner(found.user_id, found.token_id, found.roles, limit)


async def outcomes(meter: Meter, owner: TokenOwner, calls: int) -> list[object]:
    return await asyncio.gather(*(meter.count(owner) for _ in range(calls)), return_exceptions=True)


def test_calls_at_once_stop_exactly_at_the_limit(folder: Path, port: int) -> None:
    with postgres_server(folder, port) as url:
        migrate(url)
        with Accounts(url) as accounts:
            _, owner = member(accounts, "at once", limit=137)
            two_gateways = Meter(accounts), Meter(accounts)

            async def call() -> list[object]:
                both = await asyncio.gather(*(outcomes(meter, owner, 100) for meter in two_gateways))
                return [outcome for each in both for outcome in each]

            made = asyncio.run(call())
            assert sum(isinstance(outcome, int) for outcome in made) == 137
            assert sum(isinstance(outcome, QuotaExceeded) for outcome in made) == 63
            assert accounts.usage(owner).used == 137


def test_calls_while_postgres_is_away_pass_and_are_counted_later(folder: Path, port: int) -> None:
    async def scenario() -> None:
        with postgres_server(folder, port) as url:
            migrate(url)
            accounts = Accounts(url)
            token, owner = member(accounts, "in the storm", limit=50)
            book, meter = TokenBook(accounts, RateLimit(600), GatewayMetrics()), Meter(accounts)
            await book.admit(token)
            await outcomes(meter, owner, 3)
            assert accounts.usage(owner).used == 3

        assert await outcomes(meter, owner, 5) == [None] * 5
        assert (await book.admit(token)).user_id == owner.user_id
        with pytest.raises(psycopg2.Error):
            await book.admit("mur_never_seen")

        with postgres_server(folder, port):
            async with asyncio.timeout(20):
                while _used(accounts, owner) != 8:
                    await asyncio.sleep(0.1)
            with pytest.raises(UnknownToken):
                await book.admit("mur_never_seen")
            accounts.close()

    asyncio.run(scenario())


def _used(accounts: Accounts, owner: TokenOwner) -> int:
    try:
        return accounts.usage(owner).used
    except psycopg2.Error:
        return -1
