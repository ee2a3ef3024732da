"""Calls of the month, exact however many arrive at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from psycopg2 import errors as pg_errors

from make_us_rich.accounts.tokens import TokenOwner
from make_us_rich.core.errors import QuotaExceeded, UnknownToken
from make_us_rich.database.pool import Database


@dataclass(frozen=True)
class Usage:
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


class Consumption(Database):
    def consume(self, owner: TokenOwner, calls: int = 1) -> int:
        """Count calls of this month; gives how many remain. Raises QuotaExceeded, counting nothing, past the limit.

        One statement decides and counts, so that no two calls can both take the last one. Raises UnknownToken when the
        account was deleted meanwhile.
        """
        try:
            return self._consume(owner, calls)
        except pg_errors.ForeignKeyViolation:
            raise _gone() from None

    def _consume(self, owner: TokenOwner, calls: int) -> int:
        now = datetime.now(UTC)
        with self._cursor() as cursor:
            cursor.execute(
                "INSERT INTO monthly_consumptions AS used (user_id, month, calls) "
                "SELECT %(user)s, %(month)s, %(calls)s WHERE %(calls)s <= %(limit)s "
                "ON CONFLICT (user_id, month) DO UPDATE SET calls = used.calls + %(calls)s "
                "WHERE used.calls + %(calls)s <= %(limit)s RETURNING calls",
                {"user": owner.user_id, "month": month_of(now), "calls": calls, "limit": owner.monthly_calls},
            )
            row = cursor.fetchone()
            if row is None:
                raise QuotaExceeded(
                    f"all {owner.monthly_calls} calls of this month are used",
                    limit=owner.monthly_calls,
                    resets_at=next_month(now),
                )
            cursor.execute(
                "INSERT INTO user_api_consumptions AS used (user_id, day, calls) VALUES (%s, %s, %s) "
                "ON CONFLICT (user_id, day) DO UPDATE SET calls = used.calls + EXCLUDED.calls",
                (owner.user_id, now.date(), calls),
            )
        remaining: int = owner.monthly_calls - row[0]
        return remaining

    def usage(self, owner: TokenOwner) -> Usage:
        return self.usage_of(owner.user_id)

    def usage_of(self, user_id: int) -> Usage:
        """This month's consumption, in all and by day (UTC). Raises UnknownToken when there is no such account."""
        now = datetime.now(UTC)
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT plans.monthly_calls, coalesce(used.calls, 0) FROM users JOIN plans USING (plan_id) "
                "LEFT JOIN monthly_consumptions AS used ON used.user_id = users.user_id AND used.month = %s "
                "WHERE users.user_id = %s",
                (month_of(now), user_id),
            )
            row = cursor.fetchone()
            if row is None:
                raise _gone()
            limit, used = row
            cursor.execute(
                "SELECT day, calls FROM user_api_consumptions WHERE user_id = %s AND day >= %s ORDER BY day",
                (user_id, month_of(now)),
            )
            return Usage(limit, used, next_month(now), dict(cursor.fetchall()))


def _gone() -> UnknownToken:
    return UnknownToken("the account of this token was deleted")


def month_of(now: datetime) -> date:
    return now.date().replace(day=1)


def next_month(now: datetime) -> datetime:
    """When a month's calls are allowed again."""
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)
