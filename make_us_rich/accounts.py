"""Users, their API tokens and what they consumed, in Postgres. Parameterised SQL only.

A password is hashed with argon2. A token is 256 random bits, which nobody can guess, so its plain SHA-256 is stored
and found by an index; a slow hash would only slow every call down.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from threading import BoundedSemaphore, Lock
from types import TracebackType
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from psycopg2 import errors as pg_errors
from psycopg2.pool import ThreadedConnectionPool

from make_us_rich.errors import InputError, NameTaken, QuotaExceeded, UnknownToken, WrongCredentials

ADMIN, MEMBER = "admin", "member"
TOKEN_PREFIX = "mur_"
_SHOWN_PREFIX_CHARS = 10
_SERVICE_USER = "service"
_RESERVED = frozenset({"admin", _SERVICE_USER})  # nobody waits there to be given a role later
_SHORTEST_NAME, _LONGEST_NAME = 3, 64
_SHORTEST_PASSWORD, _LONGEST_PASSWORD = 10, 1024
_POOL_SIZE = 16


@dataclass(frozen=True)
class User:
    user_id: int
    name: str
    roles: frozenset[str]

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.roles


@dataclass(frozen=True)
class TokenOwner:
    """Who calls with a token, and how often they may in a month."""

    user_id: int
    token_id: int
    roles: frozenset[str]
    monthly_calls: int

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.roles


@dataclass(frozen=True)
class Token:
    """A token as its owner sees it later: never the plaintext, only how it begins."""

    token_id: int
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class Usage:
    limit: int
    used: int
    resets_at: datetime
    by_day: dict[date, int]

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    @property
    def resets_at_ms(self) -> int:
        return int(self.resets_at.timestamp() * 1000)


class Accounts:
    """Safe to share between threads. Connections are opened on first use."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._pool: ThreadedConnectionPool | None = None
        self._opening = Lock()
        self._free = BoundedSemaphore(_POOL_SIZE)
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def __enter__(self) -> Accounts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.closeall()

    # users

    def create_user(self, name: str, password: str, *, role: str = MEMBER) -> User:
        """Raises NameTaken, or InputError naming the field whose rule is broken."""
        _check_name(name)
        check_password(password, name)
        if role != ADMIN and name.lower() in _RESERVED:
            raise NameTaken(f"the name {name!r} is taken: choose another")
        hashed = self._hasher.hash(password)
        try:
            with self._cursor() as cursor:
                cursor.execute(
                    "INSERT INTO users (name, password_hash) VALUES (%s, %s) RETURNING user_id",
                    (name, hashed),
                )
                user_id: int = cursor.fetchone()[0]
                _add_role(cursor, user_id, role)
        except pg_errors.UniqueViolation:
            raise NameTaken(f"the name {name!r} is taken: choose another") from None
        return User(user_id, name, frozenset({role}))

    def authenticate(self, name: str, password: str) -> User:
        """Raises WrongCredentials, after the same work and with the same words whether the name exists or not."""
        row = None
        if name.isprintable():  # Postgres takes no NUL
            with self._cursor() as cursor:
                cursor.execute(
                    "SELECT user_id, password_hash FROM users WHERE lower(name) = lower(%s) AND locked_at IS NULL",
                    (name,),
                )
                row = cursor.fetchone()
        user_id, hashed = row if row else (None, self._nobody)
        try:
            self._hasher.verify(hashed, password[:_LONGEST_PASSWORD])
        except (VerificationError, InvalidHashError):
            user_id = None
        if user_id is None:
            raise WrongCredentials("the name or the password is wrong")
        if self._hasher.check_needs_rehash(hashed):
            self._set_password(user_id, password)
        return self.user(user_id)

    def user(self, user_id: int) -> User:
        """Raises WrongCredentials for a user that is gone or locked."""
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT name FROM users WHERE user_id = %s AND locked_at IS NULL",
                (user_id,),
            )
            row = cursor.fetchone()
            if row is None:
                raise WrongCredentials("this account is gone or locked")
            return User(user_id, row[0], _roles(cursor, user_id))

    def ensure_user(self, name: str, password: str, *, role: str = MEMBER) -> User:
        """Create the user, or give them this password and role."""
        try:
            return self.create_user(name, password, role=role)
        except NameTaken:
            pass
        with self._cursor() as cursor:
            cursor.execute("SELECT user_id FROM users WHERE lower(name) = lower(%s)", (name,))
            user_id: int = cursor.fetchone()[0]
            _add_role(cursor, user_id, role)
        self._set_password(user_id, password)
        return self.user(user_id)

    # tokens

    def create_token(self, user_id: int, name: str) -> str:
        """The plaintext, which is shown this once. Raises NameTaken or InputError."""
        if not 1 <= len(name.strip()) <= _LONGEST_NAME or not name.isprintable():
            raise InputError(f"a token's name has 1 to {_LONGEST_NAME} printable characters", field="name")
        plaintext = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._store_token(user_id, name.strip(), plaintext)
        return plaintext

    def tokens(self, user_id: int) -> list[Token]:
        """Those that are not revoked, newest first."""
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT token_id, name, prefix, created_at, last_used_at FROM api_tokens "
                "WHERE user_id = %s AND revoked_at IS NULL ORDER BY token_id DESC",
                (user_id,),
            )
            return [Token(*row) for row in cursor.fetchall()]

    def revoke_token(self, user_id: int, token_id: int) -> None:
        with self._cursor() as cursor:
            cursor.execute(
                "UPDATE api_tokens SET revoked_at = now() "
                "WHERE user_id = %s AND token_id = %s AND revoked_at IS NULL",
                (user_id, token_id),
            )

    def find_token(self, plaintext: str) -> TokenOwner:
        """Raises UnknownToken for one that was never issued, was revoked, or whose owner is locked."""
        with self._cursor() as cursor:
            cursor.execute(
                "UPDATE api_tokens AS token SET last_used_at = now() FROM users, plans "
                "WHERE token.token_hash = %s AND token.revoked_at IS NULL "
                "AND users.user_id = token.user_id AND users.locked_at IS NULL "
                "AND plans.plan_id = users.plan_id "
                "RETURNING users.user_id, token.token_id, plans.monthly_calls",
                (_digest(plaintext),),
            )
            row = cursor.fetchone()
            if row is None:
                raise UnknownToken("the token is unknown or revoked: make one on the dashboard's API page")
            user_id, token_id, monthly_calls = row
            return TokenOwner(user_id, token_id, _roles(cursor, user_id), monthly_calls)

    def ensure_service_token(self, plaintext: str) -> None:
        """The pipeline's and the dashboard's own admin token, of a user that cannot log in."""
        service = self.ensure_user(_SERVICE_USER, secrets.token_urlsafe(32), role=ADMIN)
        with self._cursor() as cursor:
            cursor.execute(
                "UPDATE users SET plan_id = (SELECT plan_id FROM plans WHERE name = 'service') "
                "WHERE user_id = %s",
                (service.user_id,),
            )
            cursor.execute(
                "UPDATE api_tokens SET revoked_at = now() "
                "WHERE user_id = %s AND token_hash <> %s AND revoked_at IS NULL",
                (service.user_id, _digest(plaintext)),
            )
            cursor.execute("SELECT 1 FROM api_tokens WHERE token_hash = %s", (_digest(plaintext),))
            present = cursor.fetchone() is not None
        if not present:
            self._store_token(service.user_id, "service", plaintext)

    # consumption

    def consume(self, owner: TokenOwner, calls: int = 1) -> int:
        """Count calls of this month; gives how many remain. Raises QuotaExceeded, counting nothing, past the limit.

        One statement decides and counts, so that no two calls can both take the last one.
        """
        now = datetime.now(UTC)
        with self._cursor() as cursor:
            cursor.execute(
                "INSERT INTO monthly_consumptions AS used (user_id, month, calls) "
                "SELECT %(user)s, %(month)s, %(calls)s WHERE %(calls)s <= %(limit)s "
                "ON CONFLICT (user_id, month) DO UPDATE SET calls = used.calls + %(calls)s "
                "WHERE used.calls + %(calls)s <= %(limit)s RETURNING calls",
                {
                    "user": owner.user_id,
                    "month": _month(now),
                    "calls": calls,
                    "limit": owner.monthly_calls,
                },
            )
            row = cursor.fetchone()
            if row is None:
                raise QuotaExceeded(
                    f"all {owner.monthly_calls} calls of this month are used",
                    limit=owner.monthly_calls,
                    resets_at=next_month(now),
                )
            cursor.execute(
                "INSERT INTO user_api_consumptions AS used (user_id, day, calls) VALUES (%s, %s, %s) "
                "ON CONFLICT (user_id, day) DO UPDATE SET calls = used.calls + EXCLUDED.calls",
                (owner.user_id, now.date(), calls),
            )
        remaining: int = owner.monthly_calls - row[0]
        return remaining

    def usage(self, owner: TokenOwner) -> Usage:
        return self.usage_of(owner.user_id)

    def usage_of(self, user_id: int) -> Usage:
        """This month's consumption, in all and by day (UTC)."""
        now = datetime.now(UTC)
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT plans.monthly_calls, coalesce(used.calls, 0) FROM users JOIN plans USING (plan_id) "
                "LEFT JOIN monthly_consumptions AS used ON used.user_id = users.user_id AND used.month = %s "
                "WHERE users.user_id = %s",
                (_month(now), user_id),
            )
            limit, used = cursor.fetchone()
            cursor.execute(
                "SELECT day, calls FROM user_api_consumptions WHERE user_id = %s AND day >= %s ORDER BY day",
                (user_id, _month(now)),
            )
            return Usage(limit, used, next_month(now), dict(cursor.fetchall()))

    def _set_password(self, user_id: int, password: str) -> None:
        with self._cursor() as cursor:
            cursor.execute(
                "UPDATE users SET password_hash = %s WHERE user_id = %s",
                (self._hasher.hash(password), user_id),
            )

    def _store_token(self, user_id: int, name: str, plaintext: str) -> None:
        try:
            with self._cursor() as cursor:
                cursor.execute(
                    "INSERT INTO api_tokens (user_id, name, prefix, token_hash) VALUES (%s, %s, %s, %s)",
                    (user_id, name, plaintext[:_SHOWN_PREFIX_CHARS], _digest(plaintext)),
                )
        except pg_errors.UniqueViolation:
            raise NameTaken(f"you have a token named {name!r}: revoke it, or choose another name") from None

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A cursor in a transaction of its own. A connection that broke meanwhile is replaced."""
        with self._free:  # the pool itself raises when it is empty
            pool = self._open_pool()
            connection = pool.getconn()
            try:
                with connection, connection.cursor() as cursor:
                    yield cursor
            finally:
                pool.putconn(connection, close=bool(connection.closed))

    def _open_pool(self) -> ThreadedConnectionPool:
        with self._opening:
            if self._pool is None:
                self._pool = ThreadedConnectionPool(1, _POOL_SIZE, self._url)
            return self._pool


def check_password(password: str, name: str) -> None:
    """Raises InputError when a password is too short, too long, or the name itself."""
    if not _SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise InputError(
            f"a password has {_SHORTEST_PASSWORD} characters or more, up to {_LONGEST_PASSWORD}",
            field="password",
        )
    if name.lower() in password.lower() and len(password) < len(name) + _SHORTEST_PASSWORD:
        raise InputError("the password is the name with little added: choose another", field="password")


def _check_name(name: str) -> None:
    if name != name.strip() or not _SHORTEST_NAME <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise InputError(
            f"a name has {_SHORTEST_NAME} to {_LONGEST_NAME} printable characters and no space around it",
            field="name",
        )


def _add_role(cursor: Any, user_id: int, role: str) -> None:
    cursor.execute(
        "INSERT INTO user_roles (user_id, role_id) SELECT %s, role_id FROM roles WHERE name = %s "
        "ON CONFLICT DO NOTHING",
        (user_id, role),
    )


def _roles(cursor: Any, user_id: int) -> frozenset[str]:
    cursor.execute("SELECT name FROM user_roles JOIN roles USING (role_id) WHERE user_id = %s", (user_id,))
    return frozenset(row[0] for row in cursor.fetchall())


def _digest(plaintext: str) -> bytes:
    return hashlib.sha256(plaintext.encode()).digest()


def _month(now: datetime) -> date:
    return now.date().replace(day=1)


def next_month(now: datetime) -> datetime:
    """When a month's calls are allowed again."""
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)
