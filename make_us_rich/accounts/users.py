"""Users: accounts, log-ins and passwords."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg2 import errors as pg_errors

from make_us_rich.accounts.audit import COMMAND_LINE, STRANGER, write_audit, write_own_action
from make_us_rich.accounts.credentials import (
    check_password,
    checked_name,
    hash_password,
    is_outdated,
    is_reserved,
    matches,
    name_key,
    skeleton,
)
from make_us_rich.core.errors import InputError, NameTaken, WrongCredentials
from make_us_rich.database.pool import Database

ADMIN, MEMBER = "admin", "member"
SERVICE_USER = "service"


@dataclass(frozen=True)
class User:
    user_id: int
    name: str
    roles: frozenset[str]
    session_version: int  # a session that began under another version has ended

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.roles


class Users:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, password: str, *, role: str = MEMBER, by: str = "", origin: str = "") -> User:
        """Create a user. `by`: the actor in the audit log, by default the user; `origin`: an address, for the same.

        Raises NameTaken, also for a name that looks like another, or InputError for a name or password against a rule.
        """
        name = checked_name(name)
        check_password(password, name)
        if role != ADMIN and is_reserved(name):
            raise NameTaken(f"the name {name!r} is taken: choose another")
        hashed = hash_password(password)
        try:
            with self._database.transaction() as cursor:
                cursor.execute(
                    "INSERT INTO users (name, look, password_hash) VALUES (%s, %s, %s) "
                    "RETURNING user_id, session_version",
                    (name, skeleton(name), hashed),
                )
                user_id, version = cursor.fetchone()
                grant_role(cursor, user_id, role)
                write_audit(cursor, by or name, "create account", name, origin)
        except pg_errors.UniqueViolation:
            raise NameTaken(f"the name {name!r} is taken, or looks like one that is: choose another") from None
        return User(user_id, name, frozenset({role}), version)

    def ensure(self, name: str, password: str, *, role: str = MEMBER) -> User:
        """Create the user, or return the one of this name as they are, with their own password and role.

        Raises InputError, or NameTaken when another user's name looks like this one.
        """
        try:
            return self.create(name, password, role=role, by=COMMAND_LINE)
        except NameTaken:
            with self._database.transaction() as cursor:
                found = _find_by_name(cursor, name)
                if found is None:
                    raise
                return User(found.user_id, found.name, _read_roles(cursor, found.user_id), found.session_version)

    def reset(self, name: str, password: str, *, role: str) -> User:
        """Create the user, or unlock them and give them this password and role; their sessions end.

        Raises InputError.
        """
        check_password(password, name)
        user = self.ensure(name, password, role=role)
        with self._database.transaction() as cursor:
            if not lock_user(cursor, user.user_id):
                raise InputError(f"{name} was deleted meanwhile: try again to create a new account", field="name")
            cursor.execute("UPDATE users SET locked_at = NULL WHERE user_id = %s", (user.user_id,))
            grant_role(cursor, user.user_id, role)
            set_password(cursor, user.user_id, hash_password(password))
            write_audit(cursor, COMMAND_LINE, "reset password", user.name)
        return self.get(user.user_id)

    def authenticate(self, name: str, password: str, *, origin: str = "") -> User:
        """Check a log-in, write it to the audit log with its origin, and return the user.

        Raises WrongCredentials, with the same message and after the same work whether the name exists or not.
        """
        with self._database.transaction() as cursor:
            found = _find_by_name(cursor, name)
        hashed = None if found is None or found.is_locked else found.password_hash
        is_right = matches(hashed, password)
        with self._database.transaction() as cursor:
            if found is None or hashed is None or not is_right:
                # a name of no account may be a password that was typed into the wrong field: it is not written down
                write_audit(cursor, STRANGER, "fail to log in", found.name if found else "", origin)
            else:
                write_audit(cursor, found.name, "log in", found.name, origin)
                _note_login(cursor, found.user_id)
                if is_outdated(hashed):
                    cursor.execute(
                        "UPDATE users SET password_hash = %s WHERE user_id = %s",
                        (hash_password(password), found.user_id),
                    )
        if found is None or not is_right:
            raise WrongCredentials("the name or the password is wrong")
        return self.get(found.user_id)

    def can_log_in(self, name: str, password: str) -> bool:
        """Tell whether a log-in would succeed, without one: nothing is written to the audit log."""
        with self._database.transaction() as cursor:
            found = _find_by_name(cursor, name)
        return matches(None if found is None or found.is_locked else found.password_hash, password)

    def note_login(self, user_id: int) -> None:
        """Note that a session begins without a password: after a registration, or by a password link."""
        with self._database.transaction() as cursor:
            _note_login(cursor, user_id)

    def get(self, user_id: int) -> User:
        """Raises WrongCredentials for a user that was deleted or locked."""
        with self._database.transaction() as cursor:
            found = read_user(cursor, user_id)
        if found is None:
            raise WrongCredentials("this account is gone or locked")
        return found

    def named(self, name: str) -> User:
        """Return the user of this name, in any spelling. Raises InputError when there is none or it is locked."""
        with self._database.transaction() as cursor:
            found = _find_by_name(cursor, name)
            user = read_user(cursor, found.user_id) if found else None
        if user is None:
            state = "is locked: unlock it on the admin page" if found else "does not exist: register on the dashboard"
            raise InputError(f"the account {name!r} {state}, or name another", field="user")
        return user

    def change_password(self, user_id: int, current: str, new: str) -> User:
        """Set a new password and end every session. Raises WrongCredentials, or InputError for the new password."""
        user = self._confirm(user_id, current)
        check_password(new, user.name)
        hashed = hash_password(new)
        with self._database.transaction() as cursor:
            set_password(cursor, user_id, hashed)
            write_audit(cursor, user.name, "change password", user.name)
        return self.get(user_id)

    def log_out_everywhere(self, user_id: int) -> None:
        """End every session of the user, listed or not. Copies of their cookies stop working."""
        with self._database.transaction() as cursor:
            end_sessions(cursor, user_id)
            write_own_action(cursor, user_id, "log out everywhere")

    def delete(self, user_id: int, password: str) -> None:
        """Delete the user with tokens and usage. Raises WrongCredentials, or InputError for the last admin."""
        user = self._confirm(user_id, password)
        with self._database.transaction() as cursor:
            for counters in ("monthly_consumptions", "user_api_consumptions"):  # a call locks them before the user
                cursor.execute(f"DELETE FROM {counters} WHERE user_id = %s", (user_id,))
            lock_user(cursor, user_id)
            refuse_last_admin(cursor, user_id)
            cursor.execute("DELETE FROM users WHERE user_id = %s", (user_id,))
            write_audit(cursor, user.name, "delete account", user.name)

    def _confirm(self, user_id: int, password: str) -> User:
        """Return the user when the password is right. Raises WrongCredentials and writes the audit log otherwise."""
        user = self.get(user_id)
        with self._database.transaction() as cursor:
            cursor.execute("SELECT password_hash FROM users WHERE user_id = %s", (user_id,))
            row = cursor.fetchone()
        if not matches(row[0] if row else None, password):
            with self._database.transaction() as cursor:
                write_own_action(cursor, user_id, "fail to confirm password")
            raise WrongCredentials("the current password is wrong")
        return user


@dataclass(frozen=True)
class _StoredUser:
    """What a log-in needs to know of an account."""

    user_id: int
    name: str
    password_hash: str
    is_locked: bool
    session_version: int


def _find_by_name(cursor: Any, name: str) -> _StoredUser | None:
    """Find a user by any spelling of the name. Of old accounts with equal keys, the exact spelling comes first."""
    if "\0" in name:  # Postgres refuses this character
        return None
    cursor.execute(
        "SELECT user_id, name, password_hash, locked_at IS NOT NULL, session_version FROM users "
        "WHERE look = %s OR lower(name) = lower(%s) ORDER BY name <> %s, user_id",
        (skeleton(name), name, name),
    )
    rows = [_StoredUser(*row) for row in cursor.fetchall()]
    return next((row for row in rows if name_key(row.name) == name_key(name)), None)


def read_user(cursor: Any, user_id: int) -> User | None:
    """Return the user, or None when deleted or locked."""
    cursor.execute("SELECT name, session_version FROM users WHERE user_id = %s AND locked_at IS NULL", (user_id,))
    row = cursor.fetchone()
    return User(user_id, row[0], _read_roles(cursor, user_id), row[1]) if row else None


def _note_login(cursor: Any, user_id: int) -> None:
    cursor.execute("UPDATE users SET last_login_at = now() WHERE user_id = %s", (user_id,))


def lock_user(cursor: Any, user_id: int) -> bool:
    """Lock the user's row until the transaction ends. Returns False when the user was deleted.

    A transaction that changes several rows of a user locks this one first, and `user_roles` after it. Two of them then
    wait for each other in one order, and never in a circle. Only the counters of calls come before it.
    """
    cursor.execute("SELECT 1 FROM users WHERE user_id = %s FOR UPDATE", (user_id,))
    return cursor.fetchone() is not None


def _read_roles(cursor: Any, user_id: int) -> frozenset[str]:
    cursor.execute("SELECT name FROM user_roles JOIN roles USING (role_id) WHERE user_id = %s", (user_id,))
    return frozenset(row[0] for row in cursor.fetchall())


def grant_role(cursor: Any, user_id: int, role: str) -> None:
    cursor.execute(
        "INSERT INTO user_roles (user_id, role_id) SELECT %s, role_id FROM roles WHERE name = %s "
        "ON CONFLICT DO NOTHING",
        (user_id, role),
    )


def assign_plan(cursor: Any, user_id: int, plan: str) -> None:
    cursor.execute(
        "UPDATE users SET plan_id = (SELECT plan_id FROM plans WHERE name = %s) WHERE user_id = %s", (plan, user_id)
    )


def set_password(cursor: Any, user_id: int, hashed: str) -> None:
    """Store the new hash and end every session that began with the old password."""
    cursor.execute("UPDATE users SET password_hash = %s WHERE user_id = %s", (hashed, user_id))
    end_sessions(cursor, user_id)


def end_sessions(cursor: Any, user_id: int) -> None:
    """End every session, and withdraw the user's password link, of which others may have a copy."""
    cursor.execute("UPDATE users SET session_version = session_version + 1 WHERE user_id = %s", (user_id,))
    cursor.execute("DELETE FROM password_links WHERE user_id = %s", (user_id,))


def refuse_last_admin(cursor: Any, leaving_id: int) -> None:
    """Raise InputError when this user is the only admin. The lock keeps two admins from leaving at the same time.

    The caller has locked the user's row.
    """
    cursor.execute("LOCK TABLE user_roles IN SHARE ROW EXCLUSIVE MODE")
    cursor.execute(
        "SELECT user_id FROM users JOIN user_roles USING (user_id) JOIN roles USING (role_id) "
        "WHERE roles.name = %s AND locked_at IS NULL AND users.name <> %s",
        (ADMIN, SERVICE_USER),
    )
    if [row[0] for row in cursor.fetchall()] == [leaving_id]:
        raise InputError("this is the last admin: make somebody else one first", field="user")
