"""Limits of API calls in a month, and of attempts to guess, counted in Postgres for all workers together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from psycopg2 import errors as pg_errors

from make_us_rich.accounts.audit import STRANGER, write_audit
from make_us_rich.accounts.tokens import TokenOwner
from make_us_rich.core.errors import QuotaExceeded, TooManyAttempts, UnknownToken
from make_us_rich.core.times import to_ms
from make_us_rich.database.pool import CommitInDoubt, Database


@dataclass(frozen=True)
class Usage:
    """Calls of one account in this month, in all and by day (UTC)."""

    limit: int
    used: int
    resets_at: datetime
    by_day: dict[date, int]

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    @property
    def resets_at_ms(self) -> int:
        return to_ms(self.resets_at)


class Quota:
    """Counts the API calls of each month, exactly, however many arrive at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def consume(self, owner: TokenOwner, calls: int = 1) -> int:
        """Count calls and return how many remain this month. Raises QuotaExceeded, counting nothing, past the limit.

        One statement checks and counts, so two calls cannot both take the last one. Raises UnknownToken when the
        account was deleted meanwhile, CommitInDoubt when the calls may have been counted: see `was_counted`.
        """
        now = datetime.now(UTC)
        row = None
        try:
            with self._database.transaction() as cursor:
                cursor.execute(
                    "INSERT INTO monthly_consumptions AS used (user_id, month, calls) "
                    "SELECT %(user)s, %(month)s, %(calls)s WHERE %(calls)s <= %(limit)s "
                    "ON CONFLICT (user_id, month) DO UPDATE SET calls = used.calls + %(calls)s "
                    "WHERE used.calls + %(calls)s <= %(limit)s RETURNING calls, "
                    "pg_current_xact_id()::text",
                    {"user": owner.user_id, "month": month_of(now), "calls": calls, "limit": owner.monthly_calls},
                )
                row = cursor.fetchone()
                if row is None:
                    raise _quota_exceeded(owner, now)
                cursor.execute(
                    "INSERT INTO user_api_consumptions AS used (user_id, day, calls) VALUES (%s, %s, %s) "
                    "ON CONFLICT (user_id, day) DO UPDATE SET calls = used.calls + EXCLUDED.calls",
                    (owner.user_id, now.date(), calls),
                )
        except pg_errors.ForeignKeyViolation:
            raise _account_deleted() from None
        except CommitInDoubt as error:
            error.transaction_id = row[1] if row else None
            raise
        return owner.monthly_calls - int(row[0])

    def check(self, owner: TokenOwner) -> None:
        """Raise QuotaExceeded when no call of this month is left, UnknownToken when the account was deleted."""
        now = datetime.now(UTC)
        with self._database.transaction() as cursor:
            cursor.execute(
                "SELECT coalesce(used.calls, 0) FROM users LEFT JOIN monthly_consumptions AS used "
                "ON used.user_id = users.user_id AND used.month = %s WHERE users.user_id = %s",
                (month_of(now), owner.user_id),
            )
            row = cursor.fetchone()
        if row is None:
            raise _account_deleted()
        if row[0] >= owner.monthly_calls:
            raise _quota_exceeded(owner, now)

    def was_counted(self, transaction_id: str) -> bool:
        """Tell whether a `consume` whose answer was lost has counted. Raises CommitInDoubt while it still runs."""
        with self._database.transaction() as cursor:
            cursor.execute("SELECT pg_xact_status(%s::xid8)", (transaction_id,))
            status = cursor.fetchone()[0]
        if status == "in progress":
            raise CommitInDoubt("Postgres is still counting")
        return bool(status == "committed")

    def usage(self, user_id: int) -> Usage:
        """Return this month's calls. Raises UnknownToken when the account was deleted."""
        now = datetime.now(UTC)
        with self._database.transaction() as cursor:
            cursor.execute(
                "SELECT plans.monthly_calls, coalesce(used.calls, 0) FROM users JOIN plans USING (plan_id) "
                "LEFT JOIN monthly_consumptions AS used ON used.user_id = users.user_id AND used.month = %s "
                "WHERE users.user_id = %s",
                (month_of(now), user_id),
            )
            row = cursor.fetchone()
            if row is None:
                raise _account_deleted()
            limit, used = row
            cursor.execute(
                "SELECT day, calls FROM user_api_consumptions WHERE user_id = %s AND day >= %s ORDER BY day",
                (user_id, month_of(now)),
            )
            return Usage(limit, used, next_month(now), dict(cursor.fetchall()))


def _quota_exceeded(owner: TokenOwner, now: datetime) -> QuotaExceeded:
    message = f"all {owner.monthly_calls} calls of this month are used"
    return QuotaExceeded(message, limit=owner.monthly_calls, resets_at=next_month(now))


def _account_deleted() -> UnknownToken:
    return UnknownToken("the account of this token was deleted")


def month_of(now: datetime) -> date:
    """Return the first day of the month, by which calls are counted."""
    return now.date().replace(day=1)


def next_month(now: datetime) -> datetime:
    """Return when the next month begins, and calls are counted from 0 again."""
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Limit:
    """At most `max_attempts` in a window, which begins with the first of them."""

    key: str
    max_attempts: int
    window: timedelta


class Throttle:
    """Limits attempts to guess."""

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

    @contextmanager
    def attempt(self, *limits: Limit) -> Iterator[None]:
        """Count the attempt in this block, and give it back when the block ends without an error.

        Raises TooManyAttempts before the block.
        """
        self.consume_attempt(*limits)
        yield
        self.refund(*limits)

    def refund(self, *limits: Limit) -> None:
        """Give back an attempt that succeeded. Deletes windows that have ended, too."""
        with self._database.transaction() as cursor:
            cursor.execute(  # in one order, and before other rows are locked, so that no two refunds deadlock
                "UPDATE tries SET count = greatest(count - 1, 0) WHERE key = ANY(ARRAY("
                "SELECT key FROM tries WHERE key = ANY(%s) ORDER BY key FOR UPDATE))",
                ([limit.key for limit in limits],),
            )
            cursor.execute(
                "DELETE FROM tries WHERE key IN "
                "(SELECT key FROM tries WHERE ends_at <= now() LIMIT 1000 FOR UPDATE SKIP LOCKED)"
            )
