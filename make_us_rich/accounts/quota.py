"""Counts the API calls of each month, exactly, however many arrive at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from psycopg2 import errors as pg_errors

from make_us_rich.accounts.tokens import TokenOwner
from make_us_rich.core.errors import QuotaExceeded, UnknownToken
from make_us_rich.database.pool import Database


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
        return int(self.resets_at.timestamp() * 1000)


class Quota:
    def __init__(self, database: Database) -> None:
        self._database = database

    def consume(self, owner: TokenOwner, calls: int = 1) -> int:
        """Count calls and return how many remain this month. Raises QuotaExceeded, counting nothing, past the limit.

        One statement checks and counts, so two calls cannot both take the last one. Raises UnknownToken when the
        account was deleted meanwhile.
        """
        now = datetime.now(UTC)
        try:
            with self._database.transaction() as cursor:
                cursor.execute(
                    "INSERT INTO monthly_consumptions AS used (user_id, month, calls) "
                    "SELECT %(user)s, %(month)s, %(calls)s WHERE %(calls)s <= %(limit)s "
                    "ON CONFLICT (user_id, month) DO UPDATE SET calls = used.calls + %(calls)s "
                    "WHERE used.calls + %(calls)s <= %(limit)s RETURNING calls",
                    {"user": owner.user_id, "month": month_of(now), "calls": calls, "limit": owner.monthly_calls},
                )
                row = cursor.fetchone()
                if row is None:
                    message = f"all {owner.monthly_calls} calls of this month are used"
                    raise QuotaExceeded(message, limit=owner.monthly_calls, resets_at=next_month(now))
                cursor.execute(
                    "INSERT INTO user_api_consumptions AS used (user_id, day, calls) VALUES (%s, %s, %s) "
                    "ON CONFLICT (user_id, day) DO UPDATE SET calls = used.calls + EXCLUDED.calls",
                    (owner.user_id, now.date(), calls),
                )
        except pg_errors.ForeignKeyViolation:
            raise _account_deleted() from None
        return owner.monthly_calls - int(row[0])

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


def _account_deleted() -> UnknownToken:
    return UnknownToken("the account of this token was deleted")


def month_of(now: datetime) -> date:
    """Return the first day of the month, by which calls are counted."""
    return now.date().replace(day=1)


def next_month(now: datetime) -> datetime:
    """Return when the next month begins, and calls are counted from 0 again."""
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)
