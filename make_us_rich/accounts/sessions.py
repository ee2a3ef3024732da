"""Sessions that ended before their cookies expire."""

from __future__ import annotations

from datetime import timedelta

from make_us_rich.accounts.users import User, Users, read_user
from make_us_rich.core.errors import WrongCredentials


class Sessions(Users):
    def session_user(self, user_id: int, session_key: str) -> User:
        """The owner of a session. Raises WrongCredentials when the session has ended or the user is gone or locked."""
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM ended_sessions WHERE user_id = %s AND session_key = %s", (user_id, session_key)
            )
            user = None if cursor.fetchone() else read_user(cursor, user_id)
        if user is None:
            raise WrongCredentials("this session has ended")
        return user

    def end_session(self, user_id: int, session_key: str, lifetime: timedelta) -> None:
        """Refuse the session's cookies from now on. After `lifetime` they expire by themselves and are forgotten."""
        with self._cursor() as cursor:
            cursor.execute("DELETE FROM ended_sessions WHERE expires_at <= now()")
            cursor.execute(
                "INSERT INTO ended_sessions (user_id, session_key, expires_at) "
                "SELECT user_id, %s, now() + %s FROM users WHERE user_id = %s ON CONFLICT DO NOTHING",
                (session_key, lifetime, user_id),
            )
