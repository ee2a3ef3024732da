"""Sessions, password links, throttling and administration in a real Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from make_us_rich.accounts import ADMIN, COMMAND_LINE, MEMBER, Accounts, Limit
from make_us_rich.accounts.credentials import hash_password
from make_us_rich.core.errors import BadLink, InputError, NameTaken, TooManyAttempts, UnknownToken, WrongCredentials
from make_us_rich.database.migrations import SQL_FOLDER
from make_us_rich.database.pool import Database
from tests.support.accounts import owner_of, transaction
from tests.support.servers import migrated_database

PASSWORD = "correct horse battery"
ANOTHER = "staples in a paper boat"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with migrated_database() as server:
        yield server


@pytest.fixture
def accounts(url: str) -> Iterator[Accounts]:
    _execute(url, "TRUNCATE users, audit_log, tries RESTART IDENTITY CASCADE")
    with Accounts(Database(url)) as made:
        yield made


def _execute(url: str, statement: str) -> None:
    with transaction(url) as cursor:
        cursor.execute(statement)


def _entries(accounts: Accounts) -> list[tuple[str, str, str, str]]:
    return [(entry.actor, entry.action, entry.subject, entry.detail) for entry in accounts.audit.entries()]


# sessions and passwords


def test_a_new_password_works_the_old_one_does_not_and_sessions_end(accounts: Accounts) -> None:
    before = accounts.users.create("ada", PASSWORD)
    after = accounts.users.change_password(before.user_id, PASSWORD, ANOTHER)

    assert after.session_version != before.session_version
    assert accounts.users.authenticate("ada", ANOTHER) == after
    with pytest.raises(WrongCredentials):
        accounts.users.authenticate("ada", PASSWORD)


def test_a_password_is_changed_only_with_the_current_one_and_for_a_good_one(accounts: Accounts) -> None:
    user = accounts.users.create("ada", PASSWORD)

    with pytest.raises(WrongCredentials, match="current password"):
        accounts.users.change_password(user.user_id, ANOTHER, ANOTHER)
    with pytest.raises(InputError):
        accounts.users.change_password(user.user_id, PASSWORD, "short")
    assert accounts.users.authenticate("ada", PASSWORD) == user


def test_logging_out_everywhere_changes_the_session_version(accounts: Accounts) -> None:
    user = accounts.users.create("ada", PASSWORD)
    accounts.users.log_out_everywhere(user.user_id)

    assert accounts.users.get(user.user_id).session_version != user.session_version


def test_a_deleted_account_is_gone_with_its_tokens(accounts: Accounts) -> None:
    user = accounts.users.create("ada", PASSWORD)
    token = accounts.tokens.create(user.user_id, "laptop")

    with pytest.raises(WrongCredentials):
        accounts.users.delete(user.user_id, ANOTHER)
    accounts.users.delete(user.user_id, PASSWORD)

    with pytest.raises(UnknownToken):
        owner_of(accounts, token)
    with pytest.raises(WrongCredentials):
        accounts.users.get(user.user_id)
    assert _entries(accounts)[0] == ("ada", "delete account", "ada", "")


def test_preparing_again_leaves_an_admin_as_people_made_them(accounts: Accounts) -> None:
    accounts.users.create("root", PASSWORD, role=ADMIN)
    admin = accounts.users.ensure("admin", PASSWORD, role=ADMIN)
    accounts.admin.set_role(admin.user_id, MEMBER, by="root")
    assert not accounts.users.ensure("admin", ANOTHER, role=ADMIN).is_admin
    assert accounts.users.authenticate("admin", PASSWORD) == accounts.users.get(admin.user_id)

    accounts.admin.lock(admin.user_id, by="root")
    accounts.users.ensure("admin", ANOTHER, role=ADMIN)
    with pytest.raises(WrongCredentials):
        accounts.users.authenticate("admin", PASSWORD)


def test_the_command_line_gives_a_locked_admin_their_place_back(accounts: Accounts) -> None:
    accounts.users.create("root", PASSWORD, role=ADMIN)
    admin = accounts.users.create("ada", PASSWORD)
    accounts.admin.lock(admin.user_id, by="root")
    accounts.users.reset("ada", ANOTHER, role=ADMIN)

    assert accounts.users.authenticate("ada", ANOTHER).is_admin


# tokens


def test_a_rotated_token_keeps_its_name_and_ends_the_old_one(accounts: Accounts) -> None:
    user = accounts.users.create("ada", PASSWORD)
    old = accounts.tokens.create(user.user_id, "laptop")
    (before,) = accounts.tokens.of_user(user.user_id)
    new = accounts.tokens.rotate(user.user_id, before.token_id)

    assert owner_of(accounts, new).user_id == user.user_id
    with pytest.raises(UnknownToken):
        owner_of(accounts, old)
    assert [token.name for token in accounts.tokens.of_user(user.user_id)] == ["laptop"]


def test_only_its_owner_rotates_a_token(accounts: Accounts) -> None:
    owner, other = accounts.users.create("ada", PASSWORD), accounts.users.create("eve", PASSWORD)
    token = accounts.tokens.create(owner.user_id, "laptop")
    (kept,) = accounts.tokens.of_user(owner.user_id)

    with pytest.raises(UnknownToken):
        accounts.tokens.rotate(other.user_id, kept.token_id)
    assert owner_of(accounts, token).user_id == owner.user_id


def test_tokens_are_capped_and_their_coming_and_going_is_entries(accounts: Accounts) -> None:
    user = accounts.users.create("ada", PASSWORD)

    def create(number: int) -> bool:
        try:
            accounts.tokens.create(user.user_id, f"token {number}")
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(30))) == 20
    newest, oldest, *_ = accounts.tokens.of_user(user.user_id)
    accounts.tokens.rotate(user.user_id, newest.token_id)
    accounts.tokens.revoke(user.user_id, oldest.token_id)
    assert create(99)
    assert _entries(accounts)[:3] == [
        ("ada", "create token", "ada", "token 99"),
        ("ada", "revoke token", "ada", oldest.name),
        ("ada", "rotate token", "ada", newest.name),
    ]


# names


@pytest.mark.parametrize(
    "other", ["SEC-ALICE", "sec-alİce", "ｓｅｃ-alice", "sec-alıce", "séc-álice", "sec-a1ice", "sec-al1ce"]
)
def test_a_name_that_looks_like_another_is_taken(accounts: Accounts, other: str) -> None:
    accounts.users.create("sec-alice", PASSWORD)
    with pytest.raises((NameTaken, InputError)):
        accounts.users.create(other, PASSWORD)


@pytest.mark.parametrize(
    "name",
    [
        "admin",
        "Adm1n",
        "ａｄｍｉｎ",
        "аdmin",
        "ad-min_2",
        "Ädmin",
        "command line",
        "Command-Line",
        "stranger",
        "service",
        "dashboard",
        "4dmin",
        "@dmin",
        "adm!n",
        "admin123",
        "4dministr4tor",
        "aclmin",
        "s3rvice",
        "$ervice-2",
        "5upport",
        "sy5tem",
        "d4shb0ard",
        "5tranger",
        "77r00t77",
    ],
)
def test_nobody_takes_a_name_of_those_who_run_the_place(accounts: Accounts, name: str) -> None:
    with pytest.raises((NameTaken, InputError)):
        accounts.users.create(name, PASSWORD)


@pytest.mark.parametrize(
    "name", ["Zoë", "josé.o'neil", "Anna-Maria 2", "x_y@example.org", "badminton4", "tom5", "3dith"]
)
def test_a_latin_name_is_fine_and_any_spelling_of_it_logs_in(accounts: Accounts, name: str) -> None:
    made = accounts.users.create(name, PASSWORD)
    assert accounts.users.authenticate(name.upper(), PASSWORD) == made


def test_accounts_from_before_the_rule_keep_working(url: str, accounts: Accounts) -> None:
    """Names that an earlier version accepted: look-alikes, other scripts, other letter cases."""
    hashed = hash_password(PASSWORD)
    _execute(url, "ALTER TABLE users DROP COLUMN look")
    names = ["ada1", "adal", "Иван", "sec-alice", "adm1n"]
    with transaction(url) as cursor:
        for name in names:
            cursor.execute("INSERT INTO users (name, password_hash) VALUES (%s, %s)", (name, hashed))
        (script,) = SQL_FOLDER.glob("*_name_looks.sql")
        cursor.execute(script.read_text().partition("-- migrate:down")[0])

    for name in names:
        assert accounts.users.authenticate(name, PASSWORD).name == name
    assert accounts.users.authenticate("ИВАН", PASSWORD).name == "Иван"
    # Postgres compares this one equal to sec-alice: it would be a second name under which to guess the password
    with pytest.raises(WrongCredentials):
        accounts.users.authenticate("sec-alİce", PASSWORD)
    with pytest.raises(NameTaken):
        accounts.users.create("Ada1", PASSWORD)
    with pytest.raises(NameTaken, match="looks like"):
        accounts.users.ensure("admin", PASSWORD, role=ADMIN)


# password links


def test_a_link_sets_a_password_once_and_ends_sessions(accounts: Accounts) -> None:
    user = accounts.users.create("ada", PASSWORD)
    secret = accounts.links.create(user.user_id, by="root")

    with pytest.raises(InputError):
        accounts.links.use(secret, "short")  # a refused password does not consume the link
    after = accounts.links.use(secret, ANOTHER)

    assert after.session_version != user.session_version
    assert accounts.users.authenticate("ada", ANOTHER) == after
    with pytest.raises(BadLink):
        accounts.links.use(secret, PASSWORD)


def test_two_browsers_cannot_both_use_a_link(accounts: Accounts) -> None:
    user = accounts.users.create("ada", PASSWORD)
    secret = accounts.links.create(user.user_id, by="root")

    def use(password: str) -> bool:
        try:
            accounts.links.use(secret, password)
        except BadLink:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(use, [PASSWORD, ANOTHER] * 2)) == 1


@pytest.mark.parametrize("secret", ["", "nonsense", "'; DROP TABLE users; --", "ä\0"])
def test_garbage_is_no_link(accounts: Accounts, secret: str) -> None:
    with pytest.raises(BadLink):
        accounts.links.owner(secret)


def test_a_link_ends_with_time_and_with_the_next_one(accounts: Accounts, url: str) -> None:
    user = accounts.users.create("ada", PASSWORD)
    first = accounts.links.create(user.user_id, by="root")
    second = accounts.links.create(user.user_id, by="root")
    with pytest.raises(BadLink):
        accounts.links.owner(first)
    assert accounts.links.owner(second).name == "ada"

    _execute(url, "UPDATE password_links SET created_at = now() - interval '2 days', expires_at = now()")
    with pytest.raises(BadLink):
        accounts.links.use(second, ANOTHER)


@pytest.mark.parametrize(
    "end",
    [
        lambda accounts, user: (accounts.admin.lock(user, by="root"), accounts.admin.unlock(user, by="root")),
        lambda accounts, user: accounts.users.change_password(user, PASSWORD, ANOTHER),
        lambda accounts, user: accounts.users.log_out_everywhere(user),
    ],
    ids=["lock and unlock", "another password", "log out everywhere"],
)
def test_a_link_ends_with_the_sessions(accounts: Accounts, end: Callable[[Accounts, int], object]) -> None:
    user = accounts.users.create("ada", PASSWORD)
    secret = accounts.links.create(user.user_id, by="root")
    end(accounts, user.user_id)

    with pytest.raises(BadLink):
        accounts.links.use(secret, "a third one, long enough")


def test_the_first_admin_chooses_their_password_by_a_link(accounts: Accounts) -> None:
    root = accounts.users.create("root", PASSWORD, role=ADMIN, by=COMMAND_LINE)
    secret = accounts.links.create(root.user_id, by=COMMAND_LINE)
    accounts.links.use(secret, ANOTHER)

    assert accounts.users.authenticate("root", ANOTHER).is_admin
    assert ("command line", "make password link", "root", "") in _entries(accounts)


def test_no_link_lies_readable_in_the_tables(accounts: Accounts, url: str) -> None:
    secret = accounts.links.create(accounts.users.create("ada", PASSWORD).user_id, by="root")
    with transaction(url) as cursor:
        cursor.execute("SELECT password_links::text, audit_log::text FROM password_links, audit_log")
        assert secret not in str(cursor.fetchall())


# throttling


def test_tries_are_counted_for_all_processes_and_come_back_with_time(accounts: Accounts, url: str) -> None:
    limit = Limit("log-in ada 192.0.2.1", max_attempts=3, window=timedelta(minutes=15))
    with Accounts(Database(url)) as other_worker, ThreadPoolExecutor(8) as pool:

        def try_once(number: int) -> bool:
            try:
                (accounts, other_worker)[number % 2].throttle.consume_attempt(limit)
            except TooManyAttempts:
                return False
            return True

        assert sum(pool.map(try_once, range(20))) == 3
    with pytest.raises(TooManyAttempts) as caught:
        accounts.throttle.consume_attempt(limit)
    assert 0 < caught.value.retry_after_s <= 900

    accounts.throttle.consume_attempt(Limit("log-in ada 198.51.100.7", max_attempts=3, window=timedelta(minutes=15)))
    _execute(url, "UPDATE tries SET ends_at = now()")
    accounts.throttle.consume_attempt(limit)


def test_a_success_takes_its_try_back_and_sweeps_the_old(accounts: Accounts, url: str) -> None:
    limit = Limit("log-in ada 192.0.2.1", max_attempts=1, window=timedelta(minutes=15))
    for _ in range(5):
        accounts.throttle.consume_attempt(limit)
        accounts.throttle.refund(limit)
    accounts.throttle.consume_attempt(limit)
    with pytest.raises(TooManyAttempts):
        accounts.throttle.consume_attempt(limit)

    _execute(url, "UPDATE tries SET ends_at = now()")
    accounts.throttle.refund(limit)
    with transaction(url) as cursor:
        cursor.execute("SELECT count(*) FROM tries")
        assert cursor.fetchone() == (0,)


# administration


def test_an_admin_reads_and_changes_roles_and_plans(accounts: Accounts) -> None:
    accounts.users.create("root", PASSWORD, role=ADMIN)
    ada = accounts.users.create("ada", PASSWORD)
    accounts.ensure_service_token("mur_of-the-service")
    accounts.admin.set_role(ada.user_id, ADMIN, by="root")
    accounts.admin.set_plan(ada.user_id, "trader", by="root")
    owner = owner_of(accounts, accounts.tokens.create(ada.user_id, "bot"))
    accounts.quota.consume(owner, calls=7)

    row, other = accounts.admin.accounts()  # sorted by name, without the service account
    assert (row.name, row.role, row.plan, row.used, row.locked) == ("ada", ADMIN, "trader", 7, False)
    assert (row.monthly_calls, owner.monthly_calls) == (20_000, 20_000)
    assert (other.name, other.used) == ("root", 0)
    assert [entry for entry in _entries(accounts) if entry[0] == "root"][:2] == [
        ("root", "set plan", "ada", "trader"),
        ("root", "make admin", "ada", ""),
    ]


def test_a_locked_account_is_out_at_once_and_back_when_unlocked(accounts: Accounts) -> None:
    user = accounts.users.create("ada", PASSWORD)
    token = accounts.tokens.create(user.user_id, "bot")
    accounts.admin.lock(user.user_id, by="root")

    with pytest.raises(WrongCredentials):
        accounts.users.authenticate("ada", PASSWORD)
    with pytest.raises(WrongCredentials):
        accounts.users.get(user.user_id)
    with pytest.raises(UnknownToken):
        owner_of(accounts, token)
    with pytest.raises(InputError, match="ada is locked: unlock the account first"):
        accounts.links.create(user.user_id, by="root")

    accounts.admin.unlock(user.user_id, by="root")
    assert accounts.users.authenticate("ada", PASSWORD).session_version != user.session_version
    assert owner_of(accounts, token).user_id == user.user_id


def test_the_last_admin_stays(accounts: Accounts) -> None:
    root = accounts.users.create("root", PASSWORD, role=ADMIN)
    accounts.ensure_service_token("mur_of-the-service")  # it is an admin, but nobody can log in as it
    before = _entries(accounts)

    for leave in (
        lambda: accounts.admin.set_role(root.user_id, MEMBER, by="root"),
        lambda: accounts.admin.lock(root.user_id, by="root"),
        lambda: accounts.users.delete(root.user_id, PASSWORD),
    ):
        with pytest.raises(InputError, match="last admin"):
            leave()
    assert accounts.users.get(root.user_id).is_admin
    assert _entries(accounts) == before


def test_two_last_admins_cannot_both_leave(accounts: Accounts) -> None:
    admins = [accounts.users.create(name, PASSWORD, role=ADMIN) for name in ("root", "boss")]

    def leave(user_id: int) -> bool:
        try:
            accounts.admin.set_role(user_id, MEMBER, by="test")
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(leave, [admin.user_id for admin in admins])) == 1


def test_a_plans_quota_counts_for_everybody_on_it_at_once(accounts: Accounts) -> None:
    user = accounts.users.create("ada", PASSWORD)
    token = accounts.tokens.create(user.user_id, "bot")
    quota = owner_of(accounts, token).monthly_calls
    accounts.admin.set_monthly_calls("member", quota + 1, by="root")

    assert owner_of(accounts, token).monthly_calls == quota + 1
    accounts.admin.set_monthly_calls("member", quota, by="root")


@pytest.mark.parametrize("calls", [0, -1, 10**10])
def test_a_senseless_quota_is_refused(accounts: Accounts, calls: int) -> None:
    with pytest.raises(InputError) as caught:
        accounts.admin.set_monthly_calls("member", calls, by="root")
    assert caught.value.field == "monthly_calls"


def test_the_services_account_is_nobodys_to_change(accounts: Accounts) -> None:
    accounts.ensure_service_token("mur_of-the-service")
    service = owner_of(accounts, "mur_of-the-service")

    with pytest.raises(InputError):
        accounts.admin.lock(service.user_id, by="root")
    with pytest.raises(InputError):
        accounts.admin.set_plan(service.user_id, "member", by="root")
    with pytest.raises(InputError):
        accounts.links.create(service.user_id, by="root")
