"""The table `trainings`: when each pair was last trained, by which a run chooses the pairs that it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg2.extras import execute_values

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database.pool import Database

# A run as of an earlier time, which a person started, does not make a pair's training older. GREATEST leaves out NULL.
_UPSERT = """
INSERT INTO trainings AS old (market, pair, interval, tried_as_of_ms, trained_as_of_ms, run_seconds, failure) VALUES %s
ON CONFLICT (market, pair, interval) DO UPDATE SET
    failure = CASE WHEN excluded.tried_as_of_ms >= old.tried_as_of_ms THEN excluded.failure ELSE old.failure END,
    tried_as_of_ms = greatest(old.tried_as_of_ms, excluded.tried_as_of_ms),
    trained_as_of_ms = greatest(old.trained_as_of_ms, excluded.trained_as_of_ms),
    run_seconds = coalesce(excluded.run_seconds, old.run_seconds)
"""


@dataclass(frozen=True)
class LastTraining:
    """A row of the table: see sql/0015_trainings.sql. failure: why the newest try failed."""

    tried_as_of_ms: int
    trained_as_of_ms: int | None
    run_seconds: float | None
    failure: str | None = None

    @property
    def failed_as_of_ms(self) -> int | None:
        """Return the as_of of the newest try if that failed, else None."""
        return None if self.trained_as_of_ms == self.tried_as_of_ms else self.tried_as_of_ms


def latest(database: Database, *, market: str, interval: Interval) -> dict[str, LastTraining]:
    """Return the last training of each pair that a run tried to train, by pair."""
    with database.transaction() as cursor:
        cursor.execute(
            "SELECT pair, tried_as_of_ms, trained_as_of_ms, run_seconds, failure FROM trainings"
            " WHERE market = %s AND interval = %s",
            (market, interval),
        )
        return {pair: LastTraining(*values) for pair, *values in cursor.fetchall()}


def record(
    database: Database,
    tried: Mapping[Pair, str | None],
    *,
    market: str,
    interval: Interval,
    as_of_ms: int,
    run_seconds: Mapping[Pair, float],
) -> None:
    """Record the pairs that a run tried to train, and for each why it was not trained; None for one that was.

    `run_seconds`: what each of them took, where it was measured.
    """
    if not tried:
        return
    rows = [
        (market, pair, interval, as_of_ms, None if failure else as_of_ms, run_seconds.get(pair), failure)
        for pair, failure in tried.items()
    ]
    with database.transaction() as cursor:
        execute_values(cursor, _UPSERT, rows)
