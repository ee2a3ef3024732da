"""Users: who they are, how they log in, and how their sessions end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg2 import errors as pg_errors

from make_us_rich.accounts.audit import write_audit, write_own_action
from make_us_rich.accounts.names import COMMAND_LINE, STRANGER, checked_name, fold, is_reserved, look
from make_us_rich.accounts.passwords import check_password, hash_password, is_outdated, matches
from make_us_rich.core.errors import InputError, NameTaken, WrongCredentials
from make_us_rich.database.pool import Database

ADMIN, MEMBER = "admin", "member"
SERVICE_USER = "service"


@dataclass(frozen=True)
class User:
    user_id: int
    name: str
    roles: frozenset[str]
    session_version: int  # sessions begun under another one have ended

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.roles


class Users(Database):
    def create_user(self, name: str, password: str, *, role: str = MEMBER, by: str = "", origin: str = "") -> User:
        """`by`: who makes it, the user when empty; `origin`: where they are, such as an address.

        Raises NameTaken, also for a name that looks like another, or InputError naming the field whose rule is broken.
        """
        name = checked_name(name)
        check_password(password, name)
        if role != ADMIN and is_reserved(name):
            raise NameTaken(f"the name {name!r} is taken: choose another")
        hashed = hash_password(password)
        try:
            with self._cursor() as cursor:
                cursor.execute(
                    "INSERT INTO users (name, look, password_hash) VALUES (%s, %s, %s) "
                    "RETURNING user_id, session_version",
                    (name, look(name), hashed),
                )
                user_id, version = cursor.fetchone()
                give_role(cursor, user_id, role)
                write_audit(cursor, by or name, "create account", name, origin)
        except pg_errors.UniqueViolation:
            raise NameTaken(f"the name {name!r} is taken, or looks like one that is: choose another") from None
        return User(user_id, name, frozenset({role}), version)

    def ensure_user(self, name: str, password: str, *, role: str = MEMBER) -> User:
        """Create the user; one who is there stays as people made them: password, role, lock.

        Raises InputError, or NameTaken when somebody else's name looks like this one.
        """
        try:
            return self.create_user(name, password, role=role, by=COMMAND_LINE)
        except NameTaken:
            with self._cursor() as cursor:
                found = _find(cursor, name)
                if found is None:
                    raise
                return User(found.user_id, found.name, read_roles(cursor, found.user_id), found.session_version)

    def reset_user(self, name: str, password: str, *, role: str = MEMBER) -> User:
        """Create the user, or give them this password and role and unlock them; their sessions end.

        Raises InputError.
        """
        check_password(password, name)
        user = self.ensure_user(name, password, role=role)
        with self._cursor() as cursor:
            cursor.execute("UPDATE users SET locked_at = NULL WHERE user_id = %s", (user.user_id,))
            give_role(cursor, user.user_id, role)
            set_password(cursor, user.user_id, hash_password(password))
            write_audit(cursor, COMMAND_LINE, "reset password", user.name)
        return self.user(user.user_id)

    def authenticate(self, name: str, password: str, *, origin: str = "") -> User:
        """The user, whose log-in from `origin` is in the audit log, as is one that fails.

        Raises WrongCredentials, after the same work and with the same words whether the name exists or not.
        """
        with self._cursor() as cursor:
            found = _find(cursor, name)
        hashed = None if found is None or found.is_locked else found.password_hash
        is_right = matches(hashed, password)
        with self._cursor() as cursor:
            if found is None or hashed is None or not is_right:
                # what is no account's name may be a password in the wrong field: it is not written down
                write_audit(cursor, STRANGER, "fail to log in", found.name if found else "", origin)
            else:
                write_audit(cursor, found.name, "log in", found.name, origin)
                cursor.execute("UPDATE users SET last_login_at = now() WHERE user_id = %s", (found.user_id,))
                if is_outdated(hashed):
                    cursor.execute(
                        "UPDATE users SET password_hash = %s WHERE user_id = %s",
                        (hash_password(password), found.user_id),
                    )
        if found is None or not is_right:
            raise WrongCredentials("the name or the password is wrong")
        return self.user(found.user_id)

    def user(self, user_id: int) -> User:
        """Raises WrongCredentials for a user that is gone or locked."""
        with self._cursor() as cursor:
            found = read_user(cursor, user_id)
        if found is None:
            raise WrongCredentials("this account is gone or locked")
        return found

    def change_password(self, user_id: int, current: str, new: str) -> User:
        """End every session with it. Raises WrongCredentials, or InputError about the new one."""
        user = self._confirmed(user_id, current)
        check_password(new, user.name)
        hashed = hash_password(new)
        with self._cursor() as cursor:
            set_password(cursor, user_id, hashed)
            write_audit(cursor, user.name, "change password", user.name)
        return self.user(user_id)

    def log_out_everywhere(self, user_id: int) -> None:
        with self._cursor() as cursor:
            end_sessions(cursor, user_id)
            write_own_action(cursor, user_id, "log out everywhere")

    def delete_user(self, user_id: int, password: str) -> None:
        """With tokens and consumption. Raises WrongCredentials, or InputError for the last admin."""
        user = self._confirmed(user_id, password)
        with self._cursor() as cursor:
            keep_an_admin(cursor, user_id)
            cursor.execute("DELETE FROM users WHERE user_id = %s", (user_id,))
            write_audit(cursor, user.name, "delete account", user.name)

    def _confirmed(self, user_id: int, password: str) -> User:
        user = self.user(user_id)
        with self._cursor() as cursor:
            cursor.execute("SELECT password_hash FROM users WHERE user_id = %s", (user_id,))
            row = cursor.fetchone()
        if not matches(row[0] if row else None, password):
            with self._cursor() as cursor:
                write_own_action(cursor, user_id, "fail to confirm password")
            raise WrongCredentials("the current password is wrong")
        return user


@dataclass(frozen=True)
class _Found:
    """What a log-in reads of an account."""

    user_id: int
    name: str
    password_hash: str
    is_locked: bool
    session_version: int


def _find(cursor: Any, name: str) -> _Found | None:
    """The account of a name in any spelling of it. Of older accounts with one fold the one spelt exactly so."""
    if "\0" in name:  # Postgres takes none
        return None
    cursor.execute(
        "SELECT user_id, name, password_hash, locked_at IS NOT NULL, session_version FROM users "
        "WHERE look = %s OR lower(name) = lower(%s) ORDER BY name <> %s, user_id",
        (look(name), name, name),
    )
    rows = [_Found(*row) for row in cursor.fetchall()]
    return next((row for row in rows if fold(row.name) == fold(name)), None)


def read_user(cursor: Any, user_id: int) -> User | None:
    cursor.execute("SELECT name, session_version FROM users WHERE user_id = %s AND locked_at IS NULL", (user_id,))
    row = cursor.fetchone()
    return User(user_id, row[0], read_roles(cursor, user_id), row[1]) if row else None


def read_roles(cursor: Any, user_id: int) -> frozenset[str]:
    cursor.execute("SELECT name FROM user_roles JOIN roles USING (role_id) WHERE user_id = %s", (user_id,))
    return frozenset(row[0] for row in cursor.fetchall())


def give_role(cursor: Any, user_id: int, role: str) -> None:
    cursor.execute(
        "INSERT INTO user_roles (user_id, role_id) SELECT %s, role_id FROM roles WHERE name = %s "
        "ON CONFLICT DO NOTHING",
        (user_id, role),
    )


def set_password(cursor: Any, user_id: int, hashed: str) -> None:
    """And end every session that was begun with the old one."""
    cursor.execute("UPDATE users SET password_hash = %s WHERE user_id = %s", (hashed, user_id))
    end_sessions(cursor, user_id)


def end_sessions(cursor: Any, user_id: int) -> None:
    """And withdraw a link that would set a password: who locks or logs out everywhere may fear for it too."""
    cursor.execute("UPDATE users SET session_version = session_version + 1 WHERE user_id = %s", (user_id,))
    cursor.execute("DELETE FROM password_links WHERE user_id = %s", (user_id,))


def keep_an_admin(cursor: Any, leaving_id: int) -> None:
    """Raises InputError when nobody else could run the place. Two last admins cannot leave at once."""
    cursor.execute("LOCK TABLE user_roles IN SHARE ROW EXCLUSIVE MODE")
    cursor.execute(
        "SELECT user_id FROM users JOIN user_roles USING (user_id) JOIN roles USING (role_id) "
        "WHERE roles.name = %s AND locked_at IS NULL AND users.name <> %s",
        (ADMIN, SERVICE_USER),
    )
    if [row[0] for row in cursor.fetchall()] == [leaving_id]:
        raise InputError("this is the last admin: make somebody else one first", field="user")
