"""The sessions of a user's browsers: which are in use, and which ended before their cookies expire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from make_us_rich.accounts.audit import write_own_action
from make_us_rich.accounts.users import User, read_user
from make_us_rich.core.errors import InputError, WrongCredentials
from make_us_rich.database.pool import Database

LIFETIME = timedelta(days=10)
"""How long a session lasts, however often it is used."""

# "Last used" is exact to a minute, so that not every request writes.
_TOUCH = """
INSERT INTO sessions AS old (user_id, session_key, session_version, device, started_at, expires_at)
VALUES (%(user_id)s, %(key)s, %(version)s, %(device)s, %(started_at)s, %(expires_at)s)
ON CONFLICT (user_id, session_key) DO UPDATE
    SET used_at = now(), device = excluded.device, session_version = excluded.session_version
    WHERE old.used_at < now() - interval '1 minute' OR old.session_version <> excluded.session_version
RETURNING xmax = 0 -- true for a new row
"""
# Rows whose cookies have expired. Those that another transaction deletes at this moment are left to it.
_PRUNE = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE expires_at <= now() FOR UPDATE SKIP LOCKED
))
"""


@dataclass(frozen=True)
class SessionCookie:
    """What the cookie of a session says. `version`: of the user's sessions when it began; another has ended."""

    user_id: int
    version: int
    started_s: int
    key: str

    @property
    def expires_at(self) -> datetime:
        return self.started_at + LIFETIME

    @property
    def started_at(self) -> datetime:
        return datetime.fromtimestamp(self.started_s, UTC)


@dataclass(frozen=True)
class Session:
    """A session that can still be used. `device`: browser and system in words."""

    session_id: int
    key: str
    device: str
    started_at: datetime
    used_at: datetime


class Sessions:
    def __init__(self, database: Database) -> None:
        self._database = database

    def resume(self, cookie: SessionCookie, device: str) -> User:
        """Return the user of a session and note that it was used.

        Raises WrongCredentials when it has ended or expired, or the user is deleted or locked.
        """
        with self._database.transaction() as cursor:
            cursor.execute(
                "SELECT 1 FROM ended_sessions WHERE user_id = %s AND session_key = %s", (cookie.user_id, cookie.key)
            )
            user = None if cursor.fetchone() else read_user(cursor, cookie.user_id)
            if user is None or user.session_version != cookie.version or cookie.expires_at < datetime.now(UTC):
                raise WrongCredentials("this session has ended")
            times = {"started_at": cookie.started_at, "expires_at": cookie.expires_at}
            key = {"user_id": cookie.user_id, "key": cookie.key, "version": cookie.version, "device": device}
            cursor.execute(_TOUCH, key | times)
            if cursor.fetchone() == (True,):
                _prune(cursor)
        return user

    def of_user(self, user_id: int) -> Sequence[Session]:
        """Return the sessions that can still be used, the last used first."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "SELECT session_id, session_key, device, started_at, used_at FROM sessions "
                "JOIN users USING (user_id, session_version) "
                "WHERE user_id = %s AND expires_at > now() AND NOT EXISTS (SELECT 1 FROM ended_sessions AS ended "
                "WHERE ended.user_id = sessions.user_id AND ended.session_key = sessions.session_key) "
                "ORDER BY used_at DESC, session_id",
                (user_id,),
            )
            return [Session(*row) for row in cursor.fetchall()]

    def end(self, user_id: int, session_key: str) -> None:
        """Refuse the session's cookies, and their copies, from now on."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO ended_sessions (user_id, session_key, expires_at) "
                "SELECT user_id, %s, now() + %s FROM users WHERE user_id = %s FOR KEY SHARE ON CONFLICT DO NOTHING",
                (session_key, LIFETIME, user_id),
            )
            _prune(cursor)  # after the user's row is locked: see lock_user

    def end_listed(self, user_id: int, session_id: int) -> str:
        """End a session that `of_user` listed and return its device. Raises InputError when it has ended."""
        found = next((each for each in self.of_user(user_id) if each.session_id == session_id), None)
        if found is None:
            raise InputError("this session has ended already", field="session")
        self.end(user_id, found.key)
        with self._database.transaction() as cursor:
            write_own_action(cursor, user_id, "log out a session", found.device)
        return found.device


def _prune(cursor: Any) -> None:
    """Delete the rows of sessions whose cookies have expired."""
    for table in ("ended_sessions", "sessions"):
        cursor.execute(_PRUNE.format(table=table))
