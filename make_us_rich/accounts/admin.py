"""What an admin does to other accounts, one-time password links included.

Each action is written to the audit log in the same transaction.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from make_us_rich.accounts.audit import write_audit
from make_us_rich.accounts.credentials import check_password, hash_password
from make_us_rich.accounts.limits import month_of
from make_us_rich.accounts.tokens import digest
from make_us_rich.accounts.users import (
    ADMIN,
    MEMBER,
    SERVICE_USER,
    User,
    assign_plan,
    end_sessions,
    grant_role,
    lock_user,
    read_user,
    refuse_last_admin,
    set_password,
)
from make_us_rich.core.errors import BadLink, InputError
from make_us_rich.database.pool import Database

_LINK_LIFETIME = timedelta(hours=24)


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
        with self._database.transaction() as cursor:
            _begin_action(cursor, user_id, by, f"make {role}")
            if role != ADMIN:
                refuse_last_admin(cursor, user_id)
            cursor.execute("DELETE FROM user_roles WHERE user_id = %s", (user_id,))
            grant_role(cursor, user_id, role)

    def set_plan(self, user_id: int, plan: str, *, by: str) -> None:
        """Raises InputError for an unknown user or plan."""
        if plan not in {offered.name for offered in self.plans()}:
            raise InputError(f"there is no plan {plan!r}", field="plan")
        with self._database.transaction() as cursor:
            _begin_action(cursor, user_id, by, "set plan", plan)
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
        with self._database.transaction() as cursor:
            _begin_action(cursor, user_id, by, "lock")
            refuse_last_admin(cursor, user_id)
            cursor.execute("UPDATE users SET locked_at = coalesce(locked_at, now()) WHERE user_id = %s", (user_id,))
            end_sessions(cursor, user_id)

    def unlock(self, user_id: int, *, by: str) -> None:
        with self._database.transaction() as cursor:
            _begin_action(cursor, user_id, by, "unlock")
            cursor.execute("UPDATE users SET locked_at = NULL WHERE user_id = %s", (user_id,))


class PasswordLinks:
    """One-time links that set a password. An admin makes one for a user who forgot theirs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, user_id: int, *, by: str) -> str:
        """Make a link and return its secret, which is stored nowhere. The user's older link ends. Raises InputError."""
        secret = secrets.token_urlsafe(32)
        with self._database.transaction() as cursor:
            name = _begin_action(cursor, user_id, by, "make password link")
            if read_user(cursor, user_id) is None:
                raise InputError(f"{name} is locked: unlock the account first", field="user")
            cursor.execute("DELETE FROM password_links WHERE user_id = %s OR expires_at < now()", (user_id,))
            cursor.execute(
                "INSERT INTO password_links (link_hash, user_id, expires_at) VALUES (%s, %s, now() + %s)",
                (digest(secret), user_id, _LINK_LIFETIME),
            )
        return secret

    def owner(self, secret: str) -> User:
        """Return the user whose password the link sets. Raises BadLink."""
        with self._database.transaction() as cursor:
            return _owner(cursor, secret, "SELECT user_id FROM password_links")

    def use(self, secret: str, password: str) -> User:
        """Set the password, end the user's sessions and delete the link. Raises BadLink.

        Raises InputError for a bad password; the link stays then.
        """
        owner = self.owner(secret)
        check_password(password, owner.name)
        hashed = hash_password(password)
        with self._database.transaction() as cursor:
            lock_user(cursor, owner.user_id)
            # read again, because another browser may have used the link meanwhile
            user = _owner(cursor, secret, "DELETE FROM password_links", " RETURNING user_id")
            set_password(cursor, user.user_id, hashed)
            write_audit(cursor, user.name, "set password by link", user.name)
            return _or_bad_link(read_user(cursor, user.user_id))


def link_url(dashboard_url: str, secret: str) -> str:
    """Return the address that a user opens to set their password."""
    return f"{dashboard_url.rstrip('/')}/set-password/{secret}"


def _begin_action(cursor: Any, user_id: int, by: str, action: str, detail: str = "") -> str:
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


def _owner(cursor: Any, secret: str, statement: str, returning: str = "") -> User:
    cursor.execute(f"{statement} WHERE link_hash = %s AND expires_at > now(){returning}", (digest(secret),))
    row = cursor.fetchone()
    return _or_bad_link(read_user(cursor, row[0]) if row else None)


def _or_bad_link(found: User | None) -> User:
    if found is None:
        raise BadLink("this link was used or is too old: ask an admin for a new one")
    return found
