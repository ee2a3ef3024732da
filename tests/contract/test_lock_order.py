"""Two actions on one account at the same moment: one waits for the other, and neither ends in a deadlock.

Each test holds a lock until both actions wait, which fixes the order in which they go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from make_us_rich.accounts import ADMIN, MEMBER, Accounts, User
from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.database.pool import Database
from tests.support.accounts import owner_of, transaction
from tests.support.servers import migrated_database
from tests.support.waiting import wait_until

PASSWORD, ANOTHER = "correct horse battery", "staples in a paper boat"
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
_USER_ROW, _ROLES = "SELECT 1 FROM users WHERE name = 'ada' FOR UPDATE", "LOCK TABLE user_roles IN EXCLUSIVE MODE"

Action = Callable[[], object]
Prepared = Callable[[Accounts, User], Action]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with migrated_database() as server:
        yield server


@pytest.fixture
def accounts(url: str) -> Iterator[Accounts]:
    with transaction(url) as cursor:
        cursor.execute("TRUNCATE users, audit_log, tries RESTART IDENTITY CASCADE")
    with Accounts(Database(url)) as made:
        made.users.create("boss", PASSWORD, role=ADMIN)
        yield made


def deletion(accounts: Accounts, user: User) -> Action:
    return lambda: accounts.users.delete(user.user_id, PASSWORD)


def lock(accounts: Accounts, user: User) -> Action:
    return lambda: accounts.admin.lock(user.user_id, by="boss")


def reset(accounts: Accounts, user: User) -> Action:
    return lambda: accounts.users.reset(user.name, ANOTHER, role=ADMIN)


def demotion(accounts: Accounts, user: User) -> Action:
    return lambda: accounts.admin.set_role(user.user_id, MEMBER, by="boss")


def rotation(accounts: Accounts, user: User) -> Action:
    token = accounts.tokens.of_user(user.user_id)[0]
    return lambda: accounts.tokens.rotate(user.user_id, token.token_id)


def counted_call(accounts: Accounts, user: User) -> Action:
    """Count the first call of a day in a month that has calls."""
    owner = owner_of(accounts, accounts.tokens.create(user.user_id, "counted"))
    accounts.quota.consume(owner)
    with accounts.database.transaction() as cursor:
        cursor.execute("DELETE FROM user_api_consumptions")
    return lambda: accounts.quota.consume(owner)


def end_of_a_session(accounts: Accounts, user: User) -> Action:
    """End a session while another one of the user has expired."""
    with accounts.database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO ended_sessions (user_id, session_key, expires_at) VALUES (%s, 'old', now())", (user.user_id,)
        )
    return lambda: accounts.sessions.end(user.user_id, "a key")


def use_of_a_link(accounts: Accounts, user: User) -> Action:
    secret = accounts.links.create(user.user_id, by="boss")
    return lambda: accounts.links.use(secret, ANOTHER)


def another_link(accounts: Accounts, user: User) -> Action:
    return lambda: accounts.links.create(user.user_id, by="boss")


@pytest.mark.parametrize(
    ("held", "first", "second"),
    [
        (_ROLES, deletion, lock),
        (_ROLES, deletion, reset),
        (_ROLES, deletion, demotion),
        (_USER_ROW, deletion, rotation),
        (_USER_ROW, deletion, counted_call),
        (_USER_ROW, deletion, end_of_a_session),
        (_USER_ROW, deletion, use_of_a_link),
        (_USER_ROW, another_link, use_of_a_link),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_no_deadlock(accounts: Accounts, url: str, held: str, first: Prepared, second: Prepared) -> None:
    user = accounts.users.create("ada", PASSWORD, role=ADMIN)
    accounts.tokens.create(user.user_id, "program")
    actions = second(accounts, user), first(accounts, user)
    with ThreadPoolExecutor(2) as pool:
        with transaction(url) as cursor, transaction(url) as observer:
            cursor.execute(held)
            running = []
            for action in reversed(actions):
                running.append(pool.submit(outcome, action))
                wait_until(lambda: waiting(observer) == len(running), 20, "it does not wait for the lock")
        outcomes = [each.result(timeout=20) for each in running]
    assert outcomes[0] == ""
    assert outcomes[1] in ("", "InputError", "UnknownToken", "WrongCredentials", "BadLink"), outcomes


def outcome(action: Action) -> str:
    """Do the action; return the name of the error that it raised as a refusal, or an empty string."""
    try:
        action()
    except MakeUsRichError as refused:
        return type(refused).__name__
    return ""


def waiting(cursor: object) -> int:
    cursor.execute("SELECT pg_stat_clear_snapshot()")  # type: ignore[attr-defined]
    cursor.execute(_WAITING)  # type: ignore[attr-defined]
    return int(cursor.fetchone()[0])  # type: ignore[attr-defined]
