"""What an admin does to other accounts. Each action is written to the audit log in the same transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from make_us_rich.accounts.audit import write_audit
from make_us_rich.accounts.quota import month_of
from make_us_rich.accounts.users import (
    ADMIN,
    MEMBER,
    SERVICE_USER,
    assign_plan,
    end_sessions,
    grant_role,
    refuse_last_admin,
)
from make_us_rich.core.errors import InputError
from make_us_rich.database.pool import Database


@dataclass(frozen=True)
class AccountRow:
    """A row of the admin page's table."""

    user_id: int
    name: str
    role: str
    plan: str
    monthly_calls: int
    used: int  # calls of this month
    created_at: datetime
    last_login_at: datetime | None
    locked: bool


@dataclass(frozen=True)
class QuotaPlan:
    """How many calls its accounts may make in a month."""

    name: str
    monthly_calls: int


class Administration:
    def __init__(self, database: Database) -> None:
        self._database = database

    def accounts(self) -> list[AccountRow]:
        """Return every account but the service's, sorted by name."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "SELECT users.user_id, users.name, "
                "CASE WHEN bool_or(roles.name = %(admin)s) THEN %(admin)s ELSE %(member)s END, "
                "plans.name, plans.monthly_calls, coalesce(max(used.calls), 0), users.created_at, "
                "last_login_at, locked_at IS NOT NULL "
                "FROM users JOIN plans USING (plan_id) "
                "LEFT JOIN user_roles ON user_roles.user_id = users.user_id "
                "LEFT JOIN roles USING (role_id) "
                "LEFT JOIN monthly_consumptions AS used "
                "ON used.user_id = users.user_id AND used.month = %(month)s "
                "WHERE users.name <> %(service)s "
                "GROUP BY users.user_id, plans.plan_id ORDER BY lower(users.name)",
                {"admin": ADMIN, "member": MEMBER, "service": SERVICE_USER, "month": month_of(datetime.now(UTC))},
            )
            return [AccountRow(*row) for row in cursor.fetchall()]

    def plans(self) -> list[QuotaPlan]:
        """Return the plans that an account can be on, smallest first."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "SELECT name, monthly_calls FROM plans WHERE name <> %s ORDER BY monthly_calls", (SERVICE_USER,)
            )
            return [QuotaPlan(*row) for row in cursor.fetchall()]

    def set_role(self, user_id: int, role: str, *, by: str) -> None:
        """Replace the account's role. Raises InputError, also when it would leave no admin."""
        if role not in (ADMIN, MEMBER):
            raise InputError(f"there is no role {role!r}: choose {ADMIN} or {MEMBER}", field="role")
        with self._action(user_id, by, f"make {role}") as cursor:
            if role != ADMIN:
                refuse_last_admin(cursor, user_id)
            cursor.execute("DELETE FROM user_roles WHERE user_id = %s", (user_id,))
            grant_role(cursor, user_id, role)

    def set_plan(self, user_id: int, plan: str, *, by: str) -> None:
        """Raises InputError for an unknown user or plan."""
        if plan not in {offered.name for offered in self.plans()}:
            raise InputError(f"there is no plan {plan!r}", field="plan")
        with self._action(user_id, by, "set plan", plan) as cursor:
            assign_plan(cursor, user_id, plan)

    def set_monthly_calls(self, plan: str, monthly_calls: int, *, by: str) -> None:
        """Change the quota of everybody on a plan. Raises InputError."""
        if not 1 <= monthly_calls <= 1_000_000_000:
            raise InputError("a plan allows 1 to 1,000,000,000 calls a month", field="monthly_calls")
        with self._database.transaction() as cursor:
            cursor.execute(
                "UPDATE plans SET monthly_calls = %s WHERE name = %s AND name <> %s RETURNING 1",
                (monthly_calls, plan, SERVICE_USER),
            )
            if cursor.fetchone() is None:
                raise InputError(f"there is no plan {plan!r}", field="plan")
            write_audit(cursor, by, "set quota", plan, f"{monthly_calls:,} calls a month")

    def lock(self, user_id: int, *, by: str) -> None:
        """Refuse the account's log-ins, sessions and tokens until `unlock`. Raises InputError for the last admin."""
        with self._action(user_id, by, "lock") as cursor:
            refuse_last_admin(cursor, user_id)
            cursor.execute("UPDATE users SET locked_at = coalesce(locked_at, now()) WHERE user_id = %s", (user_id,))
            end_sessions(cursor, user_id)

    def unlock(self, user_id: int, *, by: str) -> None:
        with self._action(user_id, by, "unlock") as cursor:
            cursor.execute("UPDATE users SET locked_at = NULL WHERE user_id = %s", (user_id,))

    @contextmanager
    def _action(self, user_id: int, by: str, action: str, detail: str = "") -> Iterator[Any]:
        with self._database.transaction() as cursor:
            begin_action(cursor, user_id, by, action, detail)
            yield cursor


def begin_action(cursor: Any, user_id: int, by: str, action: str, detail: str = "") -> str:
    """Lock an account's row until the transaction ends, write the audit log, and return the account's name.

    Raises InputError for an unknown account and for the service's.
    """
    cursor.execute("SELECT name FROM users WHERE user_id = %s FOR UPDATE", (user_id,))
    row = cursor.fetchone()
    if row is None or row[0] == SERVICE_USER:
        raise InputError(f"there is no user {user_id}", field="user")
    name: str = row[0]
    write_audit(cursor, by, action, name, detail)
    return name
