"""The table `pairs`: which pairs are trained and served, and how. Admins change it while everything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from psycopg2.extras import execute_values

from make_us_rich.core.errors import InputError, UnknownPair
from make_us_rich.core.pair import Pair
from make_us_rich.database.pool import Database

ServingPlan = Literal["dedicated", "pooled", "off"]
"""A serving process of its own; one shared with other pairs that get few calls; neither trained nor served."""

SERVING_PLANS: tuple[str, ...] = get_args(ServingPlan)
DEFAULT_MAX_REPLICAS = 4  # the column's default too: sql/0010_more_replicas.sql
_MAX_REPLICAS = 64
_COLUMNS = "pair, plan, min_replicas, max_replicas, parked_at, parked_reason"


@dataclass(frozen=True)
class TrackedPair:
    """A row of the table. min_replicas 0: the pair's process stops when idle, and starts with the next call."""

    pair: Pair
    plan: ServingPlan
    min_replicas: int
    max_replicas: int
    parked_at: datetime | None
    parked_reason: str | None

    @property
    def active(self) -> bool:
        """True for a pair that is trained and served."""
        return self.plan != "off" and self.parked_at is None

    @property
    def state(self) -> str:
        """What a person reads of the state: parked since when and why, active or off."""
        if self.parked_at is not None:
            return f"parked since {self.parked_at:%Y-%m-%d %H:%M} UTC: {self.parked_reason}"
        return "active" if self.active else "off"


def tracked(database: Database) -> tuple[TrackedPair, ...]:
    """Return every pair in the table, sorted by name."""
    with database.transaction() as cursor:
        cursor.execute(f"SELECT {_COLUMNS} FROM pairs ORDER BY pair")
        return tuple(_from_row(row) for row in cursor.fetchall())


def active(database: Database) -> tuple[TrackedPair, ...]:
    """Return the pairs to train and to serve, sorted by name."""
    return tuple(item for item in tracked(database) if item.active)


def seed(database: Database, pairs: Collection[Pair], pooled: Collection[Pair]) -> None:
    """Add the pairs that are missing. A pair in the table keeps its plan."""
    rows = [(pair, "pooled" if pair in pooled else "dedicated") for pair in pairs]
    with database.transaction() as cursor:
        execute_values(cursor, "INSERT INTO pairs (pair, plan) VALUES %s ON CONFLICT DO NOTHING", rows)


def put(
    database: Database,
    pair: Pair,
    *,
    plan: str | None = None,
    min_replicas: int | None = None,
    max_replicas: int | None = None,
) -> TrackedPair:
    """Add a pair, or change the given columns of one. Raises InputError naming the field at fault."""
    with database.transaction() as cursor:
        # locked, so that a change of another column at the same moment is not undone
        cursor.execute(f"SELECT {_COLUMNS} FROM pairs WHERE pair = %s FOR UPDATE", (pair,))
        row = cursor.fetchone()
        known = _from_row(row) if row else None
        least = min_replicas if min_replicas is not None else known.min_replicas if known else 1
        default_most = known.max_replicas if known else DEFAULT_MAX_REPLICAS
        most = max_replicas if max_replicas is not None else max(least, default_most)
        chosen = plan if plan is not None else known.plan if known else "dedicated"
        if chosen not in SERVING_PLANS:
            raise InputError(f"{chosen!r} is not a plan: choose from {', '.join(SERVING_PLANS)}", field="plan")
        if not 0 <= least <= most:
            raise InputError(f"{least} is not between 0 and max_replicas, {most}", field="min_replicas")
        if not 1 <= most <= _MAX_REPLICAS:
            raise InputError(f"{most} is not between 1 and {_MAX_REPLICAS}", field="max_replicas")
        cursor.execute(
            "INSERT INTO pairs (pair, plan, min_replicas, max_replicas)"
            " VALUES (%(pair)s, %(plan)s, %(least)s, %(most)s)"
            " ON CONFLICT (pair) DO UPDATE SET plan = %(plan)s, min_replicas = %(least)s, max_replicas = %(most)s,"
            f" changed_at = now() RETURNING {_COLUMNS}",
            {"pair": pair, "plan": chosen, "least": least, "most": most},
        )
        return _from_row(cursor.fetchone())


def park(database: Database, pair: Pair, reason: str) -> TrackedPair:
    """Stop training and serving a pair for a reason. A parked pair keeps its `parked_at`.

    Raises UnknownPair, and InputError when the reason is empty.
    """
    if not reason.strip():
        raise InputError("enter a reason: users read it in place of the forecast", field="reason")
    return _change(
        database,
        "UPDATE pairs SET parked_at = coalesce(parked_at, now()), parked_reason = %(reason)s, changed_at = now()"
        " WHERE pair = %(pair)s",
        {"pair": pair, "reason": reason.strip()},
    )


def unpark(database: Database, pair: Pair) -> TrackedPair:
    """Train and serve a parked pair again. Raises UnknownPair."""
    return _change(
        database,
        "UPDATE pairs SET parked_at = NULL, parked_reason = NULL, changed_at = now() WHERE pair = %(pair)s",
        {"pair": pair},
    )


def remove(database: Database, pair: Pair) -> None:
    """Delete a pair from the table; its models, candles and forecasts stay. Raises UnknownPair."""
    _change(database, "DELETE FROM pairs WHERE pair = %(pair)s", {"pair": pair})


def _change(database: Database, statement: str, values: Mapping[str, str]) -> TrackedPair:
    with database.transaction() as cursor:
        cursor.execute(f"{statement} RETURNING {_COLUMNS}", values)
        row = cursor.fetchone()
    if row is None:
        raise UnknownPair(f"{values['pair']!r} is not in the table: add it first, `mkrich pairs add {values['pair']}`")
    return _from_row(row)


def _from_row(row: Sequence[Any]) -> TrackedPair:
    return TrackedPair(Pair.parse(row[0]), *row[1:])
