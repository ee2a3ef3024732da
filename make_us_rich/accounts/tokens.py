"""API tokens: 256 random bits, which nobody can guess.

So the plain SHA-256 is stored and found by an index; a slow hash would only slow every call down.
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
from make_us_rich.accounts.names import LONGEST_NAME
from make_us_rich.accounts.users import ADMIN
from make_us_rich.core.errors import InputError, NameTaken, UnknownToken
from make_us_rich.database.pool import Database

TOKEN_PREFIX = "mur_"
UNKNOWN = "the token is unknown or revoked: make one on the dashboard's API page"
OWNER, DASHBOARD = "owner", "dashboard"
"""A token's scope: all that its owner may do, or what the dashboard needs."""
_SHOWN_PREFIX_CHARS = 10
_MOST_TOKENS = 20


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

    @property
    def is_dashboard(self) -> bool:
        """The token's scope is the dashboard's: it reads for all users, and no role of its owner counts."""
        return DASHBOARD in self.roles


@dataclass(frozen=True)
class Token:
    """A token as its owner sees it later: never the plaintext, only how it begins."""

    token_id: int
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None


class Tokens(Database):
    def create_token(self, user_id: int, name: str) -> str:
        """The plaintext, which is shown this once. Raises NameTaken or InputError."""
        if not 1 <= len(name.strip()) <= LONGEST_NAME or not name.isprintable():
            raise InputError(f"a token's name has 1 to {LONGEST_NAME} printable characters", field="name")
        plaintext = _new_plaintext()
        try:
            with self._cursor() as cursor:
                _refuse_too_many(cursor, user_id)
                _store(cursor, user_id, name.strip(), plaintext)
                write_own_action(cursor, user_id, "create token", name.strip())
        except pg_errors.UniqueViolation:
            raise NameTaken(f"you have a token named {name.strip()!r}: revoke it, or choose another name") from None
        return plaintext

    def rotate_token(self, user_id: int, token_id: int) -> str:
        """Revoke a token for a new one of the same name; gives its plaintext. Raises UnknownToken."""
        plaintext = _new_plaintext()
        with self._cursor() as cursor:
            name = _revoke(cursor, user_id, token_id)
            if name is None:
                raise UnknownToken("this token was revoked already: create a new one")
            _store(cursor, user_id, name, plaintext)
            write_own_action(cursor, user_id, "rotate token", name)
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
            name = _revoke(cursor, user_id, token_id)
            if name is not None:
                write_own_action(cursor, user_id, "revoke token", name)

    def find_token(self, plaintext: str) -> TokenOwner:
        """Raises UnknownToken for one that was never issued, was revoked, or whose owner is locked."""
        key = digest(plaintext)
        try:
            return self.find_tokens([key])[key]
        except KeyError:
            raise UnknownToken(UNKNOWN) from None

    def find_tokens(self, digests: Sequence[bytes]) -> dict[bytes, TokenOwner]:
        """The owners of those that may be used, by digest. Of unknown tokens nothing is written."""
        with self._cursor() as cursor:
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
                cursor.execute("UPDATE api_tokens SET last_used_at = now() WHERE token_id = ANY(%s)", (used,))
        return found

    def _keep_only_token(self, user_id: int, name: str, plaintext: str, scope: str) -> None:
        """Make this the only token of that name. Raises InputError when it serves another purpose already."""
        with self._cursor() as cursor:
            cursor.execute(
                "UPDATE api_tokens SET revoked_at = now() "
                "WHERE user_id = %s AND name = %s AND token_hash <> %s AND revoked_at IS NULL",
                (user_id, name, digest(plaintext)),
            )
            cursor.execute(
                "SELECT user_id = %s AND name = %s AND scope = %s FROM api_tokens WHERE token_hash = %s",
                (user_id, name, scope, digest(plaintext)),
            )
            match cursor.fetchone():
                case None:
                    _store(cursor, user_id, name, plaintext, scope)
                    write_own_action(cursor, user_id, "create token", name)
                case (True,):
                    cursor.execute(
                        "UPDATE api_tokens SET revoked_at = NULL WHERE token_hash = %s", (digest(plaintext),)
                    )
                case _:
                    raise InputError(f"the {name} token is in use as another one: make its own", field=name)


def digest(plaintext: str) -> bytes:
    return hashlib.sha256(plaintext.encode()).digest()


def _new_plaintext() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def _store(cursor: Any, user_id: int, name: str, plaintext: str, scope: str = OWNER) -> None:
    cursor.execute(
        "INSERT INTO api_tokens (user_id, name, prefix, token_hash, scope) VALUES (%s, %s, %s, %s, %s)",
        (user_id, name, plaintext[:_SHOWN_PREFIX_CHARS], digest(plaintext), scope),
    )


def _refuse_too_many(cursor: Any, user_id: int) -> None:
    """Hold the user until the transaction ends, so that two tokens made at once are counted one after the other."""
    cursor.execute("SELECT 1 FROM users WHERE user_id = %s FOR UPDATE", (user_id,))
    cursor.execute("SELECT count(*) FROM api_tokens WHERE user_id = %s AND revoked_at IS NULL", (user_id,))
    if cursor.fetchone()[0] >= _MOST_TOKENS:
        raise InputError(f"you have {_MOST_TOKENS} tokens, which is the most: revoke one first", field="name")


def _revoke(cursor: Any, user_id: int, token_id: int) -> str | None:
    """The name that is free again, or None when there was no such token of theirs."""
    cursor.execute(
        "UPDATE api_tokens SET revoked_at = now() "
        "WHERE user_id = %s AND token_id = %s AND revoked_at IS NULL RETURNING name",
        (user_id, token_id),
    )
    row = cursor.fetchone()
    return row[0] if row else None
