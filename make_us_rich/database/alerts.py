"""The table `alerts`: the messages that were to be posted to Discord, and what came of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from make_us_rich.database.pool import Database


@dataclass(frozen=True)
class RecordedAlert:
    """`problem` says why the message was not posted; None when it was."""

    at: datetime
    title: str
    text: str
    problem: str | None


def record(database: Database, title: str, text: str, problem: str | None) -> None:
    with database.transaction() as cursor:
        cursor.execute("INSERT INTO alerts (title, text, problem) VALUES (%s, %s, %s)", (title, text, problem))


def newest(database: Database, limit: int) -> list[RecordedAlert]:
    """Return the newest alerts, newest first."""
    with database.transaction() as cursor:
        cursor.execute("SELECT at, title, text, problem FROM alerts ORDER BY alert_id DESC LIMIT %s", (limit,))
        return [RecordedAlert(*row) for row in cursor.fetchall()]


def posted_in_the_last_hour(database: Database) -> int:
    """Return how many messages Discord took in the last hour."""
    with database.transaction() as cursor:
        cursor.execute("SELECT count(*) FROM alerts WHERE problem IS NULL AND at > now() - interval '1 hour'")
        return int(cursor.fetchone()[0])
