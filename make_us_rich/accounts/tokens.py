"""API tokens: 256 random bits.

Nobody can guess them, so their plain SHA-256 is stored and an index finds it; a slow hash would only slow every call.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2 import errors as pg_errors

from make_us_rich.accounts.audit import write_own_action
from make_us_rich.accounts.credentials import MAX_NAME_LENGTH
from make_us_rich.accounts.users import ADMIN, lock_user
from make_us_rich.core.errors import InputError, NameTaken, UnknownToken
from make_us_rich.database.pool import Database

TOKEN_PREFIX = "mur_"
UNKNOWN = "the token is unknown or revoked: make one on the dashboard's API page"
OWNER, DASHBOARD = "owner", "dashboard"
"""A token's scope: everything its owner may do, or only what the dashboard needs."""
TOKEN_TTL_S = 30.0
"""How long the API may accept a token that was revoked, or whose owner was locked or deleted: for one query instead of
one a call. Counting a call finds a deleted owner at once."""
_PREFIX_CHARS = 10
_MAX_TOKENS = 20


@dataclass(frozen=True)
class TokenOwner:
    """The user who calls with a token, and their monthly quota."""

    user_id: int
    token_id: int
    roles: frozenset[str]
    monthly_calls: int

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.roles

    @property
    def is_dashboard(self) -> bool:
        """True for the dashboard's own token: it reads for all users, and its owner's roles do not count."""
        return DASHBOARD in self.roles


@dataclass(frozen=True)
class Token:
    """A token as its owner sees it after it was made: without its plaintext."""

    token_id: int
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None


class Tokens:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, user_id: int, name: str, *, by: str = "") -> str:
        """Make a token and return its plaintext, which is stored nowhere. `by`: as for `Users.create`.

        Raises NameTaken or InputError.
        """
        name = name.strip() if name.isprintable() else ""
        if not 1 <= len(name) <= MAX_NAME_LENGTH:
            raise InputError(f"a token's name has 1 to {MAX_NAME_LENGTH} printable characters", field="name")
        plaintext = _new_plaintext()
        try:
            with self._database.transaction() as cursor:
                _check_count(cursor, user_id)
                _insert(cursor, user_id, name, plaintext)
                write_own_action(cursor, user_id, "create token", name, by=by)
        except pg_errors.UniqueViolation:
            raise NameTaken(f"there is a token named {name!r}: revoke it, or choose another name") from None
        return plaintext

    def rotate(self, user_id: int, token_id: int) -> str:
        """Replace a token by a new one of the same name; return its plaintext. Raises UnknownToken."""
        plaintext = _new_plaintext()
        with self._database.transaction() as cursor:
            lock_user(cursor, user_id)
            name = _revoke(cursor, user_id, token_id)
            if name is None:
                raise UnknownToken("this token was revoked already: create a new one")
            _insert(cursor, user_id, name, plaintext)
            write_own_action(cursor, user_id, "rotate token", name)
        return plaintext

    def of_user(self, user_id: int) -> list[Token]:
        """Return the tokens that are not revoked, newest first."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "SELECT token_id, name, prefix, created_at, last_used_at FROM api_tokens "
                "WHERE user_id = %s AND revoked_at IS NULL ORDER BY token_id DESC",
                (user_id,),
            )
            return [Token(*row) for row in cursor.fetchall()]

    def revoke(self, user_id: int, token_id: int, *, by: str = "") -> None:
        """Revoke one of the user's tokens; another user's stays. `by`: as for `Users.create`."""
        with self._database.transaction() as cursor:
            name = _revoke(cursor, user_id, token_id)
            if name is not None:
                write_own_action(cursor, user_id, "revoke token", name, by=by)

    def find(self, digests: Sequence[bytes]) -> dict[bytes, TokenOwner]:
        """Return the owners of the tokens that may be used, by digest, and note that they were used.

        Left out are unknown and revoked tokens, and those of locked users; nothing is written about them.
        """
        with self._database.transaction() as cursor:
            cursor.execute(
                "SELECT token.token_hash, users.user_id, token.token_id, plans.monthly_calls, "
                "CASE WHEN token.scope = %s THEN ARRAY("
                "SELECT roles.name FROM user_roles JOIN roles USING (role_id) WHERE user_id = users.user_id) "
                "ELSE ARRAY[token.scope] END "
                "FROM api_tokens AS token JOIN users USING (user_id) JOIN plans USING (plan_id) "
                "WHERE token.token_hash = ANY(%s) AND token.revoked_at IS NULL AND users.locked_at IS NULL",
                (OWNER, list(digests)),
            )
            found = {
                bytes(key): TokenOwner(user_id, token_id, frozenset(roles), monthly_calls)
                for key, user_id, token_id, monthly_calls, roles in cursor.fetchall()
            }
            if found:
                used = [owner.token_id for owner in found.values()]
                # A token that another transaction changes is left out: a lock on one delays no other.
                cursor.execute(
                    "UPDATE api_tokens SET last_used_at = now() WHERE token_id = ANY(ARRAY("
                    "SELECT token_id FROM api_tokens WHERE token_id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED))",
                    (used,),
                )
        return found

    def replace(self, user_id: int, name: str, plaintext: str, scope: str) -> None:
        """Make this the only token of that name. Raises InputError when it is in use for another purpose."""
        key = digest(plaintext)
        with self._database.transaction() as cursor:
            cursor.execute(
                "UPDATE api_tokens SET revoked_at = now() "
                "WHERE user_id = %s AND name = %s AND token_hash <> %s AND revoked_at IS NULL",
                (user_id, name, key),
            )
            cursor.execute(
                "SELECT user_id = %s AND name = %s AND scope = %s FROM api_tokens WHERE token_hash = %s",
                (user_id, name, scope, key),
            )
            match cursor.fetchone():
                case None:
                    _insert(cursor, user_id, name, plaintext, scope)
                    write_own_action(cursor, user_id, "create token", name)
                case (True,):
                    cursor.execute("UPDATE api_tokens SET revoked_at = NULL WHERE token_hash = %s", (key,))
                case _:
                    raise InputError(f"the {name} token is in use as another one: make its own", field=name)


def digest(plaintext: str) -> bytes:
    """Return the SHA-256 by which a token or a link's secret is stored."""
    return hashlib.sha256(plaintext.encode()).digest()


def _new_plaintext() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def _insert(cursor: Any, user_id: int, name: str, plaintext: str, scope: str = OWNER) -> None:
    cursor.execute(
        "INSERT INTO api_tokens (user_id, name, prefix, token_hash, scope) VALUES (%s, %s, %s, %s, %s)",
        (user_id, name, plaintext[:_PREFIX_CHARS], digest(plaintext), scope),
    )


def _check_count(cursor: Any, user_id: int) -> None:
    """Raise InputError when the user has too many tokens. Locks the user's row, so that none is made meanwhile."""
    lock_user(cursor, user_id)
    cursor.execute("SELECT count(*) FROM api_tokens WHERE user_id = %s AND revoked_at IS NULL", (user_id,))
    if cursor.fetchone()[0] >= _MAX_TOKENS:
        raise InputError(f"a user has at most {_MAX_TOKENS} tokens: revoke one first", field="name")


def _revoke(cursor: Any, user_id: int, token_id: int) -> str | None:
    """Revoke one of the user's tokens and return its name; None when the user has no such token."""
    cursor.execute(
        "UPDATE api_tokens SET revoked_at = now() "
        "WHERE user_id = %s AND token_id = %s AND revoked_at IS NULL RETURNING name",
        (user_id, token_id),
    )
    row = cursor.fetchone()
    return row[0] if row else None
