"""How often one may guess, counted in Postgres so that every worker counts alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from make_us_rich.accounts.audit import write_audit
from make_us_rich.accounts.names import STRANGER
from make_us_rich.core.errors import TooManyAttempts
from make_us_rich.database.pool import Database


@dataclass(frozen=True)
class Limit:
    """`most` tries in a window that opens with the first of them."""

    key: str
    most: int
    window: timedelta


class Throttle(Database):
    def consume_attempt(self, *limits: Limit) -> None:
        """Count one try against each limit, before it is known whether it succeeds: tries at once count too.

        Raises TooManyAttempts at the first limit that is used up; the audit log tells it once for each window.
        """
        for limit in limits:
            with self._cursor() as cursor:
                cursor.execute(
                    "INSERT INTO tries AS made (key, count, ends_at) VALUES (%s, 1, now() + %s) "
                    "ON CONFLICT (key) DO UPDATE SET "
                    "count = CASE WHEN made.ends_at > now() THEN least(made.count + 1, %s) ELSE 1 END, "
                    "ends_at = CASE WHEN made.ends_at > now() THEN made.ends_at ELSE EXCLUDED.ends_at END "
                    "RETURNING count, extract(epoch FROM ends_at - now())",
                    (limit.key, limit.window, limit.most + 2),
                )
                count, left_s = cursor.fetchone()
                if count == limit.most + 1:
                    write_audit(cursor, STRANGER, "try too often", "", limit.key)
            if count > limit.most:
                raise TooManyAttempts("too many tries: wait and try again", retry_after_s=float(left_s))

    def refund(self, *limits: Limit) -> None:
        """Take back a try that was none: it succeeded. Windows that ended are swept out with it."""
        with self._cursor() as cursor:
            cursor.execute(
                "DELETE FROM tries WHERE key IN "
                "(SELECT key FROM tries WHERE ends_at <= now() LIMIT 1000 FOR UPDATE SKIP LOCKED)"
            )
            cursor.execute(
                "UPDATE tries SET count = greatest(count - 1, 0) WHERE key = ANY(%s)",
                ([limit.key for limit in limits],),
            )
