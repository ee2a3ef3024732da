"""The table `scores`: how good each pair's served forecasts of the last week were, one row for each pair and day."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.times import current_ms, from_ms
from make_us_rich.database.pool import Database
from make_us_rich.documents import SCORED_CANDLES, HorizonScore, Score

_WEEK_MS = 7 * 24 * HOUR_MS
_KEY = ("market", "pair", "interval", "day")


@dataclass(frozen=True)
class LatestScore:
    """The newest score of a pair, as the dashboard shows it; the fields are those of `Score`."""

    pair: Pair
    as_of: datetime
    skill_vs_naive: float
    coverage_80: float
    n: int
    drifted: bool
    reason: str
    horizons: tuple[HorizonScore, ...]


def latest(database: Database, *, market: str, interval: Interval, now_ms: int | None = None) -> dict[str, LatestScore]:
    """Return the newest score of each pair that has one in this market and interval, by pair.

    Leaves out a score whose candles have all been followed by as many others, or that is a week old: nobody scores the
    pair any more, and what it says is over. `now_ms`: by default the time of the call.
    """
    now_ms = current_ms() if now_ms is None else now_ms
    oldest_ms = now_ms - min(SCORED_CANDLES * interval.ms, _WEEK_MS)
    with database.transaction() as cursor:
        cursor.execute(
            "SELECT DISTINCT ON (pair) pair, as_of_ms, skill_vs_naive, coverage_80, n, drifted, reason, horizons"
            " FROM scores WHERE market = %s AND interval = %s AND as_of_ms > %s ORDER BY pair, as_of_ms DESC",
            (market, interval, oldest_ms),
        )
        rows = cursor.fetchall()
    found = [
        LatestScore(
            Pair.parse(pair),
            from_ms(as_of_ms),
            skill_vs_naive=skill,
            coverage_80=coverage,
            n=n,
            drifted=drifted,
            reason=reason,
            horizons=tuple(HorizonScore.model_validate(item) for item in horizons),
        )
        for pair, as_of_ms, skill, coverage, n, drifted, reason, horizons in rows
    ]
    return {str(score.pair): score for score in found}


def save(database: Database, score: Score, *, market: str, pair: Pair, interval: Interval, as_of_ms: int) -> None:
    """Save the day's score, unless the day has a newer one."""
    row = score.model_dump() | {"as_of_ms": as_of_ms}
    row |= {name: json.dumps(row[name]) for name in ("shift", "horizons")}
    row |= {"market": market, "pair": pair, "interval": interval, "day": from_ms(as_of_ms).date()}
    changed = ", ".join(f"{name} = excluded.{name}" for name in row if name not in _KEY)
    with database.transaction() as cursor:
        cursor.execute(
            f"INSERT INTO scores ({', '.join(row)}) VALUES ({', '.join(f'%({name})s' for name in row)})"
            f" ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {changed} WHERE scores.as_of_ms <= excluded.as_of_ms",
            row,
        )
