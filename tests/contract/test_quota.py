"""Quotas on a real Postgres that stops and starts again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import errors as pg_errors

from make_us_rich.accounts import ADMIN, Accounts, TokenOwner
from make_us_rich.accounts.tokens import TOKEN_TTL_S
from make_us_rich.core.errors import QuotaExceeded, UnknownToken
from make_us_rich.database.migrations import migrate
from make_us_rich.database.pool import Database
from serve_app.gateway import callers
from serve_app.gateway.callers import QuotaCounter, RateLimiter, TokenCache
from serve_app.metrics import GatewayMetrics
from tests.support.accounts import owner_of, transaction
from tests.support.processes import PROJECT_ROOT, free_port
from tests.support.servers import migrated_database, postgres_server


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


def member(accounts: Accounts, name: str, limit: int) -> tuple[str, TokenOwner]:
    user = accounts.users.create(name, "a password for tests")
    token = accounts.tokens.create(user.user_id, "tests")
    found = owner_of(accounts, token)
    return token, TokenOwner(found.user_id, found.token_id, found.roles, limit)


async def outcomes(counter: QuotaCounter, owner: TokenOwner, calls: int) -> list[object]:
    return await asyncio.gather(*(counter.count(owner) for _ in range(calls)), return_exceptions=True)


def test_concurrent_calls_stop_exactly_at_the_limit() -> None:
    with migrated_database() as url, Accounts(Database(url)) as accounts:
        _, owner = member(accounts, "at once", limit=137)
        two_gateways = QuotaCounter(accounts), QuotaCounter(accounts)

        async def call() -> list[object]:
            both = await asyncio.gather(*(outcomes(counter, owner, 100) for counter in two_gateways))
            return [outcome for each in both for outcome in each]

        made = asyncio.run(call())
        assert sum(isinstance(outcome, int) for outcome in made) == 137
        assert sum(isinstance(outcome, QuotaExceeded) for outcome in made) == 63
        assert accounts.quota.usage(owner.user_id).used == 137


def test_calls_while_postgres_is_away_pass_and_are_counted_later(
    folder: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_RETRY_AFTER_S", 0.1)

    async def scenario() -> None:
        with postgres_server(folder, port) as url:
            migrate(url)
            accounts = Accounts(Database(url))
            token, owner = member(accounts, "in the storm", limit=50)
            tokens, counter = TokenCache(accounts, RateLimiter(600), GatewayMetrics()), QuotaCounter(accounts)
            await tokens.authenticate(token)
            await outcomes(counter, owner, 3)
            assert accounts.quota.usage(owner.user_id).used == 3

        assert await outcomes(counter, owner, 5) == [None] * 5
        assert (await tokens.authenticate(token)).user_id == owner.user_id
        with pytest.raises(psycopg2.Error):
            await tokens.authenticate("mur_never_seen")

        with postgres_server(folder, port):
            async with asyncio.timeout(20):
                while _used(accounts, owner) != 8:
                    await asyncio.sleep(0.1)
            with pytest.raises(UnknownToken):
                await tokens.authenticate("mur_never_seen")
            accounts.database.close()

    asyncio.run(scenario())


def test_calls_of_a_deleted_account_are_refused_and_not_retried() -> None:
    async def scenario(url: str) -> None:
        with Accounts(Database(url)) as accounts:
            token, owner = member(accounts, "leaving", limit=50)
            tokens, counter = TokenCache(accounts, RateLimiter(600), GatewayMetrics()), QuotaCounter(accounts)
            await tokens.authenticate(token)
            accounts.users.delete(owner.user_id, "a password for tests")

            assert (await tokens.authenticate(token)).user_id == owner.user_id, "cached for half a minute"
            refused = await outcomes(counter, owner, 5)
            assert [type(each) for each in refused] == [UnknownToken] * 5
            with pytest.raises(UnknownToken, match="the account of this token was deleted"):
                accounts.quota.usage(owner.user_id)
            await asyncio.sleep(0.1)
            assert _tasks_of(counter) == [], "nothing retries"

    with migrated_database() as url:
        asyncio.run(scenario(url))


@pytest.mark.parametrize("end", ["delete", "lock", "revoke"])
def test_a_token_that_ends_is_accepted_as_long_as_the_pages_say(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(url: str) -> None:
        with Accounts(Database(url)) as accounts:
            token, owner = member(accounts, "leaving", limit=50)
            tokens = TokenCache(accounts, RateLimiter(600), GatewayMetrics())
            await tokens.authenticate(token)
            match end:
                case "delete":
                    accounts.users.delete(owner.user_id, "a password for tests")
                case "lock":
                    accounts.users.create("another admin", "a password for tests", role=ADMIN)
                    accounts.admin.lock(owner.user_id, by="test")
                case _:
                    accounts.tokens.revoke(owner.user_id, owner.token_id)
            now_s = time.monotonic()
            monkeypatch.setattr(callers.time, "monotonic", lambda: now_s + TOKEN_TTL_S + 0.1)
            with pytest.raises(UnknownToken):
                await tokens.authenticate(token)

    with migrated_database() as url:
        asyncio.run(scenario(url))
    assert f"for up to {TOKEN_TTL_S:.0f} seconds more" in (PROJECT_ROOT / "docs/reference/api.md").read_text()


def test_an_unexpected_error_reaches_the_callers_and_later_calls_are_counted() -> None:
    async def scenario(url: str) -> None:
        with Accounts(Database(url)) as accounts:
            _, owner = member(accounts, "unlucky", limit=500)
            counter = QuotaCounter(accounts)
            with transaction(url) as cursor:
                cursor.execute("ALTER TABLE monthly_consumptions RENAME TO away")
            async with asyncio.timeout(10):
                failed = await outcomes(counter, owner, 100)
            assert {type(each) for each in failed} == {pg_errors.UndefinedTable}
            with transaction(url) as cursor:
                cursor.execute("ALTER TABLE away RENAME TO monthly_consumptions")
            assert await counter.count(owner) == 499

    with migrated_database() as url:
        asyncio.run(scenario(url))


def test_unknown_tokens_cost_few_queries_and_no_write() -> None:
    def cost(accounts: Accounts, url: str) -> tuple[int, int]:
        """Return the transactions of the database and the updates of the table of tokens until now."""
        accounts.database.close()  # its sessions report their statistics once a second, and when they end
        with transaction(url) as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush(), pg_backend_pid()")
            own = cursor.fetchone()[1]
            others = (
                "SELECT pg_stat_clear_snapshot(), count(*) FROM pg_stat_activity WHERE datname = current_database()"
            )
            while cursor.execute(f"{others} AND pid <> {own}") or cursor.fetchone()[1]:
                time.sleep(0.02)
            cursor.execute(
                "SELECT (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()),"
                " (SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'api_tokens')"
            )
            transactions, updates = cursor.fetchone()
            return transactions, updates

    async def scenario(url: str) -> None:
        with Accounts(Database(url)) as accounts:
            token, owner = member(accounts, "honest", limit=50)
            tokens = TokenCache(accounts, RateLimiter(600), GatewayMetrics())
            before = cost(accounts, url)
            invented = [tokens.authenticate(f"mur_invented-{number}") for number in range(300)]
            answers = await asyncio.gather(tokens.authenticate(token), *invented, return_exceptions=True)
            transactions, updates = (now - then for now, then in zip(cost(accounts, url), before, strict=True))
        assert answers[0] == replace(owner, monthly_calls=1000), "who has a token is not kept waiting"
        assert [type(each) for each in answers[1:]] == [UnknownToken] * 300
        assert transactions < 30
        assert updates < 5

    with migrated_database() as url:
        asyncio.run(scenario(url))


def _tasks_of(counter: QuotaCounter) -> list[object]:
    return list(counter._counting.values())


def _used(accounts: Accounts, owner: TokenOwner) -> int:
    try:
        return accounts.quota.usage(owner.user_id).used
    except psycopg2.Error:
        return -1
