"""Sessions that were logged out before their cookies expire, so that a copied cookie is refused."""

from __future__ import annotations

from datetime import timedelta

from make_us_rich.accounts.users import User, read_user
from make_us_rich.core.errors import WrongCredentials
from make_us_rich.database.pool import Database


class Sessions:
    def __init__(self, database: Database) -> None:
        self._database = database

    def user(self, user_id: int, session_key: str) -> User:
        """Return the user of a session. Raises WrongCredentials when it has ended or the user is deleted or locked."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "SELECT 1 FROM ended_sessions WHERE user_id = %s AND session_key = %s", (user_id, session_key)
            )
            user = None if cursor.fetchone() else read_user(cursor, user_id)
        if user is None:
            raise WrongCredentials("this session has ended")
        return user

    def end(self, user_id: int, session_key: str, lifetime: timedelta) -> None:
        """Refuse the session's cookies from now on. After `lifetime` they have expired, and the row is deleted."""
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM ended_sessions WHERE expires_at <= now()")
            cursor.execute(
                "INSERT INTO ended_sessions (user_id, session_key, expires_at) "
                "SELECT user_id, %s, now() + %s FROM users WHERE user_id = %s ON CONFLICT DO NOTHING",
                (session_key, lifetime, user_id),
            )
