"""The table `scores`: how each pair's served forecasts of the last week did, one row a pair and day."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database.connection import transaction
from make_us_rich.documents import Score

_KEY = ("market", "pair", "interval", "day")


@dataclass(frozen=True)
class LatestScore:
    pair: str
    as_of: datetime
    skill_vs_naive: float  # fraction: 0.07 is 7 % less pinball loss than the random walk
    coverage_80: float
    n: int  # forecasts that were judged
    drifted: bool
    reason: str


def latest(database_url: str, *, market: str, interval: Interval) -> dict[str, LatestScore]:
    """Return the newest score of each pair that has one in this market and interval, by pair."""
    with transaction(database_url) as cursor:
        cursor.execute(
            "SELECT DISTINCT ON (pair) pair, as_of_ms, skill_vs_naive, coverage_80, n, drifted, reason"
            " FROM scores WHERE market = %s AND interval = %s ORDER BY pair, as_of_ms DESC",
            (market, interval),
        )
        return {row[0]: LatestScore(row[0], _moment(row[1]), *row[2:]) for row in cursor.fetchall()}


def keep(database_url: str, verdict: Score, *, market: str, pair: Pair, interval: Interval, as_of_ms: int) -> None:
    """As the day's score, unless the day has a newer one."""
    row = verdict.model_dump() | {"shift": json.dumps(verdict.shift), "as_of_ms": as_of_ms}
    row |= {"market": market, "pair": str(pair), "interval": interval, "day": _moment(as_of_ms).date()}
    changed = [name for name in row if name not in _KEY]
    with transaction(database_url) as cursor:
        cursor.execute(
            f"INSERT INTO scores ({', '.join(row)}) VALUES ({', '.join(f'%({name})s' for name in row)})"
            f" ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in changed)
            + " WHERE scores.as_of_ms <= excluded.as_of_ms",
            row,
        )


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
