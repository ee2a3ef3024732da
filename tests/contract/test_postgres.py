"""Accounts, tokens, quotas and migrations in a real Postgres."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest
from psycopg2 import errors as pg_errors

from make_us_rich.accounts import ADMIN, TOKEN_PREFIX, Accounts
from make_us_rich.core.errors import InputError, NameTaken, QuotaExceeded, UnknownPair, UnknownToken, WrongCredentials
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.migrations import SQL_FOLDER, MigrationError, migrate
from make_us_rich.database.pool import Database
from tests.support.accounts import owner_of, transaction
from tests.support.servers import empty_database
from tests.support.waiting import wait_until

PASSWORD = "correct horse battery"
INJECTION = "'; DROP TABLE users; --"
TABLES = {"users", "roles", "user_roles", "api_tokens", "user_api_consumptions", "plans", "forecasts", "pairs"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with empty_database() as made:
        with ThreadPoolExecutor(4) as pool:  # four threads, each with a connection and a dbmate process of its own
            list(pool.map(migrate, [made] * 4))
        yield made


@pytest.fixture
def accounts(url: str) -> Iterator[Accounts]:
    with Accounts(Database(url)) as made:
        yield made


def _rows(url: str, query: str) -> list[tuple[object, ...]]:
    with transaction(url) as cursor:
        cursor.execute(query)
        found: list[tuple[object, ...]] = cursor.fetchall()
        return found


def test_migrations_are_applied_once_by_whoever_comes_first(url: str) -> None:
    migrate(url)

    tables = {row[0] for row in _rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert tables >= TABLES
    versions = [row[0] for row in _rows(url, "SELECT version FROM schema_migrations ORDER BY version")]
    assert versions == sorted(file.name[:4] for file in SQL_FOLDER.glob("*.sql"))


def test_a_failing_migration_says_so_and_leaves_nothing(url: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SQL_FOLDER, tmp_path / "sql"))
    (folder / "9999_bad.sql").write_text(
        "-- migrate:up\nCREATE TABLE half (id int);\nCREATE TABLE users (id int);\n-- migrate:down\n"
    )
    with pytest.raises(MigrationError, match="already exists"):
        migrate(url, folder)

    assert _rows(url, "SELECT to_regclass('half')") == [(None,)]


def test_a_user_logs_in_with_any_case_of_the_name(accounts: Accounts) -> None:
    made = accounts.users.create("Ada", PASSWORD)

    assert accounts.users.authenticate("ada", PASSWORD) == made
    assert not made.is_admin


def test_a_taken_name_and_a_weak_password_are_refused(accounts: Accounts) -> None:
    accounts.users.create("grace", PASSWORD)

    with pytest.raises(NameTaken, match="choose another"):
        accounts.users.create("GRACE", PASSWORD)
    for field, name, password in (
        ("password", "henry", "short"),
        ("password", "henry", "qwertyuiop123"),
        ("password", "henry", "Password2024!"),
        ("name", "x", PASSWORD),
        ("name", " ada ", PASSWORD),
    ):
        with pytest.raises(InputError) as caught:
            accounts.users.create(name, password)
        assert caught.value.field == field


@pytest.mark.parametrize("name", ["admin", "Service"])
def test_nobody_registers_under_a_name_that_is_given_power_later(accounts: Accounts, name: str) -> None:
    with pytest.raises(NameTaken):
        accounts.users.create(name, PASSWORD)


def test_a_wrong_password_and_an_unknown_name_sound_the_same(accounts: Accounts) -> None:
    accounts.users.create("linus", PASSWORD)

    said = set()
    for name, password in (("linus", "wrong password"), ("nobody-at-all", PASSWORD), ("linus\0", PASSWORD)):
        with pytest.raises(WrongCredentials) as caught:
            accounts.users.authenticate(name, password)
        said.add(str(caught.value))
    assert len(said) == 1


def test_no_password_and_no_token_lies_readable_in_the_tables(accounts: Accounts, url: str) -> None:
    user = accounts.users.create("margaret", PASSWORD)
    token = accounts.tokens.create(user.user_id, "laptop")

    dump = str(_rows(url, "SELECT users::text, api_tokens::text FROM users JOIN api_tokens USING (user_id)"))
    assert PASSWORD not in dump
    assert token not in dump
    assert token.startswith(TOKEN_PREFIX)
    assert accounts.tokens.of_user(user.user_id)[0].prefix == token[:10]


def test_a_token_finds_its_owner_until_it_is_revoked(accounts: Accounts) -> None:
    user = accounts.users.create("barbara", PASSWORD)
    token = accounts.tokens.create(user.user_id, "laptop")
    other = accounts.users.create("not-barbara", PASSWORD)
    owner = owner_of(accounts, token)

    accounts.tokens.revoke(other.user_id, owner.token_id)  # somebody else's token is not theirs to revoke
    assert owner_of(accounts, token).user_id == user.user_id

    accounts.tokens.revoke(user.user_id, owner.token_id)
    with pytest.raises(UnknownToken):
        owner_of(accounts, token)
    accounts.tokens.create(user.user_id, "laptop")  # the name is free again


@pytest.mark.parametrize("garbage", ["", "mur_", INJECTION, "ä" * 5000])
def test_garbage_is_no_token(accounts: Accounts, garbage: str) -> None:
    with pytest.raises(UnknownToken):
        owner_of(accounts, garbage)


def test_sql_in_a_field_is_stored_as_text(accounts: Accounts, url: str) -> None:
    user = accounts.users.create(INJECTION, PASSWORD)
    accounts.tokens.create(user.user_id, INJECTION)

    assert accounts.users.authenticate(INJECTION, PASSWORD).name == INJECTION
    assert accounts.tokens.of_user(user.user_id)[0].name == INJECTION
    assert _rows(url, "SELECT count(*) > 0 FROM users") == [(True,)]


def test_the_quota_is_exact_under_threads(accounts: Accounts, url: str) -> None:
    user = accounts.users.create("busy", PASSWORD)
    owner = owner_of(accounts, accounts.tokens.create(user.user_id, "bot"))
    accounts.quota.consume(owner, calls=owner.monthly_calls - 200)

    def call(_: int) -> bool:
        try:
            accounts.quota.consume(owner)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(40) as pool:  # more than there are connections
        allowed = sum(pool.map(call, range(300)))

    assert allowed == 200
    with pytest.raises(QuotaExceeded) as caught:
        accounts.quota.consume(owner)
    assert caught.value.limit == owner.monthly_calls
    usage = accounts.quota.usage(user.user_id)
    assert (usage.used, usage.remaining) == (owner.monthly_calls, 0)
    assert sum(usage.by_day.values()) == usage.used


def test_a_user_takes_their_rows_with_them(accounts: Accounts, url: str) -> None:
    user = accounts.users.create("leaving", PASSWORD)
    accounts.quota.consume(owner_of(accounts, accounts.tokens.create(user.user_id, "bot")))
    with transaction(url) as cursor:
        cursor.execute("DELETE FROM users WHERE user_id = %s", (user.user_id,))

    for table in ("api_tokens", "user_roles", "user_api_consumptions", "monthly_consumptions"):
        assert _rows(url, f"SELECT count(*) FROM {table} WHERE user_id = {user.user_id}") == [(0,)]


def test_crossing_quantiles_are_refused_by_the_table(url: str) -> None:
    crossing = (
        "INSERT INTO forecasts (market, pair, interval, target_open_ms, model_version, as_of_ms, last_close,"
        " q05, q10, q25, q50, q75, q90, q95, horizon_quantiles)"
        " VALUES ('binance', 'btc_usdt', '1h', 0, 1, 0, 1, 9, 1, 1, 1, 1, 1, 1, '{{1, 1, 1, 1, 1, 1, 1}}')"
    )
    with pytest.raises(pg_errors.CheckViolation), transaction(url) as cursor:
        cursor.execute(crossing)


def test_the_service_token_is_replaced_when_it_changes(accounts: Accounts) -> None:
    accounts.ensure_service_token("mur_the-first-one")
    accounts.ensure_service_token("mur_the-first-one")
    accounts.ensure_service_token("mur_the-second-one")

    assert ADMIN in owner_of(accounts, "mur_the-second-one").roles
    with pytest.raises(UnknownToken):
        owner_of(accounts, "mur_the-first-one")


def test_a_listed_pair_keeps_what_people_made_of_it(url: str) -> None:
    pairs_table.seed(Database(url), ["btc_usdt", "eth_usdt"], ["eth_usdt"])
    pairs_table.put(Database(url), "eth_usdt", plan="dedicated", min_replicas=0, max_replicas=3)
    pairs_table.put(Database(url), "doge_usdt", plan="off")
    pairs_table.seed(Database(url), ["btc_usdt", "eth_usdt", "doge_usdt"], ["eth_usdt"])
    plans = {
        item.pair: (item.plan, item.min_replicas, item.max_replicas) for item in pairs_table.tracked(Database(url))
    }
    assert plans == {"btc_usdt": ("dedicated", 1, 4), "doge_usdt": ("off", 1, 4), "eth_usdt": ("dedicated", 0, 3)}
    assert [item.pair for item in pairs_table.active(Database(url))] == ["btc_usdt", "eth_usdt"]


def test_a_parked_pair_rests_until_it_is_unparked(url: str) -> None:
    pairs_table.put(Database(url), "luna_usdt")
    first = pairs_table.park(Database(url), "luna_usdt", "the exchange does not trade it")
    again = pairs_table.park(Database(url), "luna_usdt", "still not traded")
    assert (first.parked_at, again.parked_reason) == (again.parked_at, "still not traded")
    assert "luna_usdt" not in [item.pair for item in pairs_table.active(Database(url))]
    with pytest.raises(InputError, match="enter a reason"):
        pairs_table.park(Database(url), "luna_usdt", " ")
    assert pairs_table.unpark(Database(url), "luna_usdt").active


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"plan": INJECTION}, "plan"),
        ({"min_replicas": -1}, "min_replicas"),
        ({"min_replicas": 3, "max_replicas": 2}, "min_replicas"),
        ({"min_replicas": 0, "max_replicas": 0}, "max_replicas"),
        ({"max_replicas": 65}, "max_replicas"),
    ],
)
def test_a_bad_change_of_a_pair_names_its_field(url: str, change: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as caught:
        pairs_table.put(Database(url), "btc_usdt", **change)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_an_unlisted_pair_cannot_be_parked(url: str) -> None:
    with pytest.raises(UnknownPair, match="mkrich pairs add"):
        pairs_table.park(Database(url), "nobody_usdt", "why not")


def test_two_changes_of_a_pair_at_once_are_both_kept(url: str) -> None:
    database = Database(url)
    pairs_table.put(database, "two_usdt", plan="pooled", max_replicas=2)
    with transaction(url) as cursor:
        cursor.execute("UPDATE pairs SET plan = 'off' WHERE pair = 'two_usdt'")
        other = Thread(target=pairs_table.put, args=(database, "two_usdt"), kwargs={"max_replicas": 3})
        other.start()
        time.sleep(0.5)  # it waits for the lock of the row
    other.join()

    (changed,) = [item for item in pairs_table.tracked(database) if item.pair == "two_usdt"]
    assert (changed.plan, changed.max_replicas) == ("off", 3)


def test_a_pool_in_use_keeps_its_connection_and_the_last_user_closes_it(url: str) -> None:
    database = Database(url)

    def server_process() -> object:
        with database.transaction() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]

    with database.in_use():
        with database.in_use():
            first = server_process()
        assert server_process() == first

    # the server ends the process a moment after the connection closed
    wait_until(lambda: not _rows(url, f"SELECT 1 FROM pg_stat_activity WHERE pid = {first}"), 10, "it is still open")
    with database.in_use():
        assert server_process() != first
