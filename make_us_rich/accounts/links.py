"""Links that set a password once: for a first admin, or for somebody who forgot theirs."""

from __future__ import annotations

import secrets
from datetime import timedelta

from make_us_rich.accounts.admin import begin_action
from make_us_rich.accounts.audit import write_audit
from make_us_rich.accounts.names import COMMAND_LINE, fold
from make_us_rich.accounts.passwords import check_password, hash_password
from make_us_rich.accounts.tokens import digest
from make_us_rich.accounts.users import ADMIN, SERVICE_USER, User, Users, give_role, read_user, set_password
from make_us_rich.core.errors import BadLink, InputError

LINK_LIFETIME = timedelta(hours=24)
PATH = "/set-password"


def link_url(dashboard_url: str, secret: str) -> str:
    return f"{dashboard_url.rstrip('/')}{PATH}/{secret}"


class PasswordLinks(Users):
    def create_password_link(self, user_id: int, *, by: str) -> str:
        """The link's secret, which is shown this once; an older link of the user ends. Raises InputError."""
        secret = secrets.token_urlsafe(32)
        with self._cursor() as cursor:
            name = begin_action(cursor, user_id, by, "make password link")
            if read_user(cursor, user_id) is None:
                raise InputError(f"{name} is locked: unlock the account first", field="user")
            cursor.execute("DELETE FROM password_links WHERE user_id = %s OR expires_at < now()", (user_id,))
            cursor.execute(
                "INSERT INTO password_links (link_hash, user_id, expires_at) VALUES (%s, %s, now() + %s)",
                (digest(secret), user_id, LINK_LIFETIME),
            )
        return secret

    def create_admin(self, name: str, *, by: str = COMMAND_LINE) -> str:
        """Make an admin who cannot log in yet; gives the secret of the link that sets their password.

        An existing user of that name becomes an admin and gets a link too.
        """
        if fold(name) == SERVICE_USER:
            raise InputError(f"{SERVICE_USER} is the pipeline's own user: choose another name", field="name")
        user = self.ensure_user(name, secrets.token_urlsafe(32), role=ADMIN)
        with self._cursor() as cursor:
            give_role(cursor, user.user_id, ADMIN)
            write_audit(cursor, by, "make admin", user.name)
        return self.create_password_link(user.user_id, by=by)

    def link_owner(self, secret: str) -> User:
        """Whose password a link sets. Raises BadLink."""
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT user_id FROM password_links WHERE link_hash = %s AND expires_at > now()", (digest(secret),)
            )
            row = cursor.fetchone()
            user = read_user(cursor, row[0]) if row else None
        if user is None:
            raise BadLink("this link was used or is too old: ask an admin for a new one")
        return user

    def use_link(self, secret: str, password: str) -> User:
        """Set the password and end every session; the link is gone. Raises BadLink, or InputError and keeps it."""
        user = self.link_owner(secret)
        check_password(password, user.name)
        hashed = hash_password(password)
        with self._cursor() as cursor:
            cursor.execute(
                "DELETE FROM password_links WHERE link_hash = %s AND expires_at > now() RETURNING user_id",
                (digest(secret),),
            )
            if cursor.fetchone() is None:  # another browser was faster
                raise BadLink("this link was used or is too old: ask an admin for a new one")
            set_password(cursor, user.user_id, hashed)
            write_audit(cursor, user.name, "set password by link", user.name)
        return self.user(user.user_id)
