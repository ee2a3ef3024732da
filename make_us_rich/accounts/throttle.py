"""Limits attempts to guess. They are counted in Postgres, so that all workers share the count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from make_us_rich.accounts.audit import write_audit
from make_us_rich.accounts.names import STRANGER
from make_us_rich.core.errors import TooManyAttempts
from make_us_rich.database.pool import Database


@dataclass(frozen=True)
class Limit:
    """At most `max_attempts` in a window, which begins with the first of them."""

    key: str
    max_attempts: int
    window: timedelta


class Throttle:
    def __init__(self, database: Database) -> None:
        self._database = database

    def consume_attempt(self, *limits: Limit) -> None:
        """Count an attempt against each limit. Call it before the attempt, so that simultaneous ones count too.

        Raises TooManyAttempts at the first limit that is used up. The audit log has one entry for each such window.
        """
        for limit in limits:
            with self._database.transaction() as cursor:
                cursor.execute(
                    "INSERT INTO tries AS made (key, count, ends_at) VALUES (%s, 1, now() + %s) "
                    "ON CONFLICT (key) DO UPDATE SET "
                    "count = CASE WHEN made.ends_at > now() THEN least(made.count + 1, %s) ELSE 1 END, "
                    "ends_at = CASE WHEN made.ends_at > now() THEN made.ends_at ELSE EXCLUDED.ends_at END "
                    "RETURNING count, extract(epoch FROM ends_at - now())",
                    (limit.key, limit.window, limit.max_attempts + 2),
                )
                count, left_s = cursor.fetchone()
                if count == limit.max_attempts + 1:
                    write_audit(cursor, STRANGER, "try too often", "", limit.key)
            if count > limit.max_attempts:
                raise TooManyAttempts("too many tries: wait and try again", retry_after_s=float(left_s))

    def refund(self, *limits: Limit) -> None:
        """Give back an attempt that succeeded. Deletes windows that have ended, too."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "DELETE FROM tries WHERE key IN "
                "(SELECT key FROM tries WHERE ends_at <= now() LIMIT 1000 FOR UPDATE SKIP LOCKED)"
            )
            cursor.execute(
                "UPDATE tries SET count = greatest(count - 1, 0) WHERE key = ANY(%s)",
                ([limit.key for limit in limits],),
            )
