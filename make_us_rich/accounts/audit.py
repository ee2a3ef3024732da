"""Who did what to whom, and when. Entries are only ever added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from make_us_rich.database.pool import Database


@dataclass(frozen=True)
class AuditEntry:
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str


class AuditLog(Database):
    def audit(self, actor: str, action: str, subject: str, detail: str = "") -> None:
        """`actor` and `subject` are names, such as of users or pairs; `action` is a verb, such as `park pair`."""
        with self._cursor() as cursor:
            write_audit(cursor, actor, action, subject, detail)

    def audit_entries(self, most: int = 200) -> list[AuditEntry]:
        """Newest first."""
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT at, actor, action, subject, detail FROM audit_log ORDER BY audit_id DESC LIMIT %s", (most,)
            )
            return [AuditEntry(*row) for row in cursor.fetchall()]


def write_own_action(cursor: Any, user_id: int, action: str, detail: str = "") -> None:
    """Of what users do with their own account."""
    cursor.execute(
        "INSERT INTO audit_log (actor, action, subject, detail) "
        "SELECT name, %s, name, %s FROM users WHERE user_id = %s",
        (action, detail, user_id),
    )


def write_audit(cursor: Any, actor: str, action: str, subject: str, detail: str = "") -> None:
    """In the transaction of what it tells, so that neither is there without the other."""
    cursor.execute(
        "INSERT INTO audit_log (actor, action, subject, detail) VALUES (%s, %s, %s, %s)",
        (actor, action, subject, detail),
    )
