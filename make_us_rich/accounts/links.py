"""One-time links that set a password. An admin makes one for a user who forgot theirs."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from make_us_rich.accounts.admin import begin_action
from make_us_rich.accounts.audit import write_audit
from make_us_rich.accounts.passwords import check_password, hash_password
from make_us_rich.accounts.tokens import digest
from make_us_rich.accounts.users import User, read_user, set_password
from make_us_rich.core.errors import BadLink, InputError
from make_us_rich.database.pool import Database

LINK_LIFETIME = timedelta(hours=24)
PATH = "/set-password"


def link_url(dashboard_url: str, secret: str) -> str:
    """Return the address that a user opens to set their password."""
    return f"{dashboard_url.rstrip('/')}{PATH}/{secret}"


class PasswordLinks:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, user_id: int, *, by: str) -> str:
        """Make a link and return its secret, which is stored nowhere. The user's older link ends. Raises InputError."""
        secret = secrets.token_urlsafe(32)
        with self._database.transaction() as cursor:
            name = begin_action(cursor, user_id, by, "make password link")
            if read_user(cursor, user_id) is None:
                raise InputError(f"{name} is locked: unlock the account first", field="user")
            cursor.execute("DELETE FROM password_links WHERE user_id = %s OR expires_at < now()", (user_id,))
            cursor.execute(
                "INSERT INTO password_links (link_hash, user_id, expires_at) VALUES (%s, %s, now() + %s)",
                (digest(secret), user_id, LINK_LIFETIME),
            )
        return secret

    def owner(self, secret: str) -> User:
        """Return the user whose password the link sets. Raises BadLink."""
        with self._database.transaction() as cursor:
            return _owner(cursor, secret, "SELECT user_id FROM password_links")

    def use(self, secret: str, password: str) -> User:
        """Set the password, end the user's sessions and delete the link. Raises BadLink.

        Raises InputError for a bad password; the link stays then.
        """
        name = self.owner(secret).name
        check_password(password, name)
        hashed = hash_password(password)
        with self._database.transaction() as cursor:
            # read again, because another browser may have used the link meanwhile
            user = _owner(cursor, secret, "DELETE FROM password_links", " RETURNING user_id")
            set_password(cursor, user.user_id, hashed)
            write_audit(cursor, user.name, "set password by link", user.name)
            return _or_bad_link(read_user(cursor, user.user_id))


def _owner(cursor: Any, secret: str, statement: str, returning: str = "") -> User:
    cursor.execute(f"{statement} WHERE link_hash = %s AND expires_at > now(){returning}", (digest(secret),))
    row = cursor.fetchone()
    return _or_bad_link(read_user(cursor, row[0]) if row else None)


def _or_bad_link(found: User | None) -> User:
    if found is None:
        raise BadLink("this link was used or is too old: ask an admin for a new one")
    return found
