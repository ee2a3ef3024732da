"""A Postgres that accepts connections and does not answer, from the start or from the middle of a session on."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import errors as pg_errors

from dash_app.app import create_app
from make_us_rich.accounts import Accounts
from make_us_rich.core.errors import QuotaExceeded, RegistryError, UnknownToken
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import pool as connections
from make_us_rich.database.pool import Connection, Database, PostgresTimeout, connect
from make_us_rich.registry import promotion
from make_us_rich.registry.client import Registry
from serve_app.gateway import callers
from serve_app.gateway.callers import QuotaCounter, RateLimiter, TokenCache
from serve_app.metrics import GatewayMetrics
from tests.support.accounts import owner_of, transaction
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import migrated_database
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

# Without a limit anywhere, a test ends here.
pytestmark = pytest.mark.timeout(60)

PATIENCE_S = 20.0  # of waits of half a second to three seconds


@pytest.fixture(autouse=True)
def _calls_are_counted_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gateway try again after a tenth of a second, and not after a whole one."""
    monkeypatch.setattr(callers, "_RETRY_AFTER_S", 0.1)


@pytest.fixture(scope="module", autouse=True)
def command(postgres: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command to which Postgres does not answer. The other tests run during the five seconds that it waits."""
    with tcp_proxy(postgres) as (between, url):
        between.stop_answering()
        command = [str(Path(sys.executable).parent / "mkrich"), "pairs", "list"]
        environment = {**os.environ, "MUR_DATABASE_URL": url}
        started = subprocess.Popen(
            command, env=environment, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            yield started
        finally:
            started.kill()
            started.communicate()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with migrated_database() as url:
        yield url


@pytest.fixture
def network(postgres: str) -> Iterator[tuple[TcpProxy, str]]:
    with tcp_proxy(postgres) as (between, url):
        yield between, url


@contextmanager
def silence(between: TcpProxy) -> Iterator[None]:
    """Let Postgres fall silent until the block ends. Meanwhile clients wait half a second for it, and not five."""
    with pytest.MonkeyPatch.context() as patch:
        for limit, seconds in (
            ("CONNECT_TIMEOUT_S", 0.5),
            ("TIMEOUT_S", 0.3),
            ("_GRACE_S", 0.2),
            ("_IDLE_WAIT_S", 0.5),
        ):
            patch.setattr(connections, limit, seconds)
        between.stop_answering()
        yield
    between.resume_answering()


def test_a_server_that_never_answers_is_given_up(network: tuple[TcpProxy, str]) -> None:
    between, url = network
    started = time.monotonic()
    with silence(between), pytest.raises(psycopg2.OperationalError, match=r"did not answer within 0\.5 s"):
        pairs_table.active(Database(url))
    assert time.monotonic() - started < PATIENCE_S


def test_a_server_that_falls_silent_in_a_session_is_given_up(network: tuple[TcpProxy, str]) -> None:
    between, url = network
    started = time.monotonic()
    with closing(connect(url, timeout_s=0.5)) as session, session.cursor() as cursor:
        cursor.execute("SELECT 1")
        between.stop_answering()
        with pytest.raises(psycopg2.OperationalError, match=r"did not answer within 1\.5 s"):
            cursor.execute("SELECT 2")
    assert time.monotonic() - started < PATIENCE_S


def test_a_statement_that_takes_too_long_is_ended_by_the_server(postgres: str) -> None:
    with (
        pytest.raises(pg_errors.QueryCanceled),
        Database(postgres) as database,
        database.transaction(timeout_s=0.2) as cursor,
    ):
        cursor.execute("SELECT pg_sleep(10)")
    with transaction(postgres) as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
        assert cursor.fetchone() == (0,)


def test_a_pooler_finds_no_option_that_it_refuses() -> None:
    """PgBouncer knows these parameters of a log-in alone, and ends it at any other, as `options`."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        url = f"postgresql://app:a-password@{address}/make_us_rich?sslmode=disable&gssencmode=disable"
        asked = pool.submit(connect, url)
        with server.accept()[0] as connection:
            (length,) = struct.unpack("!I", connection.recv(4, socket.MSG_WAITALL))
            sent = connection.recv(length - 4, socket.MSG_WAITALL)[4:].split(b"\0")
        with pytest.raises(psycopg2.OperationalError):
            asked.result()

    given = dict(zip(sent[::2], sent[1::2], strict=False))
    known = {b"client_encoding", b"application_name", b"datestyle", b"timezone", b"standard_conforming_strings"}
    assert {name for name in given if name} <= {b"user", b"database"} | known


def test_many_threads_wait_at_once_and_not_one_after_the_other(network: tuple[TcpProxy, str]) -> None:
    between, url = network
    with Accounts(Database(url)) as accounts, ThreadPoolExecutor(40) as pool:
        user = accounts.users.create("in a hurry", "a password for tests").user_id
        started = time.monotonic()
        with silence(between):
            asked = [pool.submit(accounts.quota.usage, user) for _ in range(40)]
            assert all(isinstance(each.exception(), psycopg2.OperationalError) for each in asked)
        assert time.monotonic() - started < PATIENCE_S, "40 waits, one after the other"

        assert _eventually_used(accounts, user) == 0


def test_who_comes_later_does_not_wait_again(network: tuple[TcpProxy, str]) -> None:
    """As pasts and lists of pairs that many readers ask for, in the few threads that the count of calls needs too."""
    between, url = network
    database = Database(url)
    with silence(between), ThreadPoolExecutor(4) as pool:
        started = time.monotonic()
        asked = [pool.submit(pairs_table.active, database) for _ in range(100)]
        assert {type(each.exception()) for each in asked} == {PostgresTimeout}
        assert time.monotonic() - started < PATIENCE_S, "100 waits, four at a time"
    time.sleep(0.6)
    assert pairs_table.active(database) == ()


def test_dead_connections_of_the_pool_fail_no_request(
    network: tuple[TcpProxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that lost the connections answers to none of them and closes none: as after Postgres moved."""
    between, url = network
    with Database(url) as database, ThreadPoolExecutor(4) as pool:
        together = threading.Barrier(4)

        def work() -> None:
            with database.transaction() as cursor:
                cursor.execute("SELECT 1")
                together.wait(10)

        for each in [pool.submit(work) for _ in range(4)]:
            each.result()
        between.lose_connections()
        waits = _count_waits_in_vain(monkeypatch)
        for _ in range(4):
            assert pairs_table.active(database) == ()
        assert 1 <= len(waits) < 4, "each of the four dead connections was waited for"


def _count_waits_in_vain(monkeypatch: pytest.MonkeyPatch) -> list[PostgresTimeout]:
    """Return the list of the timeouts of connections from now on."""
    timeouts: list[PostgresTimeout] = []
    wait = Connection.wait

    def noting(connection: Connection) -> None:
        try:
            wait(connection)
        except PostgresTimeout as late:
            timeouts.append(late)
            raise

    monkeypatch.setattr(Connection, "wait", noting)
    return timeouts


def _calls(accounts: Accounts, tokens: TokenCache, token: str) -> Callable[[], Awaitable[int | None]]:
    """Return what the gateway does to count a call with this token."""
    counter = QuotaCounter(accounts)

    async def call() -> int | None:
        return await counter.count(await tokens.authenticate(token))

    return call


def test_the_grace_begins_when_postgres_falls_silent(network: tuple[TcpProxy, str]) -> None:
    between, url = network
    with Accounts(Database(url)) as accounts:
        user = accounts.users.create("graced", "a password for tests").user_id
        token = accounts.tokens.create(user, "tests")
        tokens = TokenCache(accounts, RateLimiter(600), GatewayMetrics())
        call = _calls(accounts, tokens, token)

        async def scenario() -> None:
            assert await call() == 999
            started = time.monotonic()
            with silence(between):
                assert await asyncio.gather(*(call() for _ in range(5))) == [None] * 5
                assert await call() is None
            assert time.monotonic() - started < PATIENCE_S
            async with asyncio.timeout(30):
                while _used(accounts, user) != 7:
                    await asyncio.sleep(0.2)

        asyncio.run(scenario())


def test_only_the_first_call_waits_for_postgres(network: tuple[TcpProxy, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The later ones, whose cached entry has expired too, pass while nobody asks Postgres anything to the end."""
    between, url = network
    over = threading.Event()

    def never(*_: object) -> None:
        over.wait(PATIENCE_S)
        raise PostgresTimeout("Postgres did not answer")

    monkeypatch.setattr(callers, "TOKEN_TTL_S", 0.0)
    with Accounts(Database(url)) as accounts:
        user = accounts.users.create("patient once", "a password for tests").user_id
        token = accounts.tokens.create(user, "tests")
        tokens = TokenCache(accounts, RateLimiter(600), GatewayMetrics())
        call = _calls(accounts, tokens, token)

        async def scenario() -> None:
            assert await call() == 999
            with silence(between):
                assert await call() is None
                with monkeypatch.context() as patch:
                    for part, method in ((accounts.tokens, "find"), (accounts.quota, "consume")):
                        patch.setattr(part, method, never)
                    async with asyncio.timeout(PATIENCE_S / 2):
                        assert [await call() for _ in range(20)] == [None] * 20
                    over.set()
            async with asyncio.timeout(30):
                while _used(accounts, user) != 22:
                    await asyncio.sleep(0.2)
            assert await call() == 1000 - 23
            accounts.tokens.revoke(user, (await tokens.authenticate(token)).token_id)
            with pytest.raises(UnknownToken):
                await call()

        asyncio.run(scenario())


def test_a_slow_statement_is_no_outage(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a lock holds up the counting, calls pass within the quota, none gets an error, and each is counted once."""
    monkeypatch.setattr(callers, "_GRACE_S", 0.0)
    with Accounts(Database(postgres)) as accounts:
        user = accounts.users.create("held up", "a password for tests").user_id
        owner = replace(owner_of(accounts, accounts.tokens.create(user, "tests")), monthly_calls=5)
        accounts.quota.consume(owner, 3)
        counter = QuotaCounter(accounts)

        async def calls() -> list[object]:
            return await asyncio.gather(*(counter.count(owner) for _ in range(4)), return_exceptions=True)

        async def scenario() -> None:
            with transaction(postgres) as cursor, monkeypatch.context() as patch:
                cursor.execute("SELECT 1 FROM monthly_consumptions WHERE user_id = %s FOR UPDATE", (user,))
                patch.setattr(connections, "TIMEOUT_S", 0.3)
                passed = await calls()
            assert [each if each is None else type(each) for each in passed] == [None] * 2 + [QuotaExceeded] * 2
            async with asyncio.timeout(30):
                while _used(accounts, user) != 5:
                    await asyncio.sleep(0.1)
            assert {type(each) for each in await calls()} == {QuotaExceeded}

        asyncio.run(scenario())


def test_a_call_whose_answer_was_lost_is_counted_once(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres commits the count of the third call after the gateway has given it up."""
    with transaction(postgres) as cursor:
        cursor.execute(_SLOW_COMMIT)
    with Accounts(Database(postgres)) as accounts:
        user = accounts.users.create("committed late", "a password for tests").user_id
        owner = owner_of(accounts, accounts.tokens.create(user, "tests"))
        accounts.quota.consume(owner, 2)
        counter = QuotaCounter(accounts)

        async def scenario() -> None:
            with monkeypatch.context() as patch:
                patch.setattr(connections, "_GRACE_S", 0.5 - connections.TIMEOUT_S)
                assert await counter.count(owner) is None
            async with asyncio.timeout(30):
                while counter._counting:
                    await asyncio.sleep(0.1)
            assert await counter.count(owner) == 1000 - 4

        asyncio.run(scenario())


_SLOW_COMMIT = """
CREATE FUNCTION wait_a_second() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow_commit AFTER UPDATE ON monthly_consumptions DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.calls = 3) EXECUTE FUNCTION wait_a_second();
"""


def test_nobody_waits_for_ever_for_the_lock_of_a_decision(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "_LOCK_TIMEOUT_S", 1.0)
    held, done = threading.Event(), threading.Event()

    def decide() -> None:
        with promotion._lock(Database(postgres), "btc_usdt_1h"):
            held.set()
            done.wait()

    other = threading.Thread(target=decide)
    other.start()
    try:
        assert held.wait(10)
        with (
            Registry(Settings(mlflow_url="http://127.0.0.1:9")) as registry,
            pytest.raises(RegistryError, match=r"another promotion of btc_usdt_1h .* try again"),
        ):
            promotion.promote_manually(registry, Database(postgres), "btc_usdt_1h", 1, by="a test")
    finally:
        done.set()
        other.join()


def test_the_dashboard_says_that_the_database_is_away(network: tuple[TcpProxy, str]) -> None:
    between, url = network
    visitor = create_app(Settings(database_url=url, secret_key="unit-test")).server.test_client()
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', visitor.get("/login").text)
    assert found is not None
    form = {"csrf_token": found[1], "name": "ada", "password": "correct horse battery"}
    assert "The name or the password is wrong" in visitor.post("/login", data=form).text
    started = time.monotonic()
    with silence(between):
        answer = visitor.post("/login", data=form)
    assert (answer.status_code, "The database does not answer" in answer.text) == (503, True)
    assert time.monotonic() - started < PATIENCE_S


def test_the_dashboard_does_not_call_a_slow_statement_an_outage(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = create_app(Settings(database_url=postgres, secret_key="unit-test")).server.test_client()
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', visitor.get("/login").text)
    assert found is not None
    form = {"csrf_token": found[1], "name": "ada", "password": "correct horse battery"}
    with transaction(postgres) as cursor:
        cursor.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        monkeypatch.setattr(connections, "TIMEOUT_S", 0.3)
        answer = visitor.post("/login", data=form)
    assert (answer.status_code, "The database is busy" in answer.text) == (503, True)


def test_a_command_ends_with_one_line(command: subprocess.Popen[str]) -> None:
    _, said = command.communicate()
    assert command.returncode == 1
    assert said == "error: Postgres did not answer within 5 s. Is it up, and is MUR_DATABASE_URL its address?\n"


def _eventually_used(accounts: Accounts, user: int) -> int:
    deadline = time.monotonic() + 20
    while (used := _used(accounts, user)) < 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return used


def _used(accounts: Accounts, user: int) -> int:
    try:
        return accounts.quota.usage(user).used
    except psycopg2.OperationalError:
        return -1
