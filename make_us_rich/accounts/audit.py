"""The audit log: who did what to whom, and when. Entries are only ever added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from make_us_rich.database.pool import Database

STRANGER, COMMAND_LINE = "stranger", "command line"
"""The actors that are no account."""


@dataclass(frozen=True)
class AuditEntry:
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str


class AuditLog:
    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, actor: str, action: str, subject: str, detail: str = "") -> None:
        """Add an entry. `actor` and `subject` are names, as of users or pairs; `action` begins with a verb."""
        with self._database.transaction() as cursor:
            write_audit(cursor, actor, action, subject, detail)

    def entries(self, limit: int = 200) -> list[AuditEntry]:
        """Return the newest entries, newest first."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "SELECT at, actor, action, subject, detail FROM audit_log ORDER BY audit_id DESC LIMIT %s", (limit,)
            )
            return [AuditEntry(*row) for row in cursor.fetchall()]


def write_audit(cursor: Any, actor: str, action: str, subject: str, detail: str = "") -> None:
    """Add an entry in the transaction of the action itself, so that neither is stored without the other."""
    cursor.execute(
        "INSERT INTO audit_log (actor, action, subject, detail) VALUES (%s, %s, %s, %s)",
        (actor, action, subject, detail),
    )


def write_own_action(cursor: Any, user_id: int, action: str, detail: str = "", *, by: str = "") -> None:
    """Add an entry about a change of a user's account. `by`: the actor, by default the user."""
    cursor.execute(
        "INSERT INTO audit_log (actor, action, subject, detail) "
        "SELECT coalesce(nullif(%s, ''), name), %s, name, %s FROM users WHERE user_id = %s",
        (by, action, detail, user_id),
    )
