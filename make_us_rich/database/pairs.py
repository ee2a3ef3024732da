"""Which pairs are trained and served, and how: the table `pairs`, which people edit while everything runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from psycopg2.extras import execute_values

from make_us_rich.core.errors import InputError, UnknownPair
from make_us_rich.core.pair import Pair
from make_us_rich.database.connection import transaction

ServingPlan = Literal["dedicated", "pooled", "off"]
"""A serving process of its own; one shared with other rarely asked pairs; neither trained nor served."""

SERVING_PLANS: tuple[str, ...] = get_args(ServingPlan)
DEFAULT_MOST_REPLICAS = 4  # as sql/0010_more_replicas.sql has it
_MOST_REPLICAS = 64


@dataclass(frozen=True)
class TrackedPair:
    """min_replicas 0: the pair's process stops when nobody asks, and starts with the next call."""

    pair: Pair
    plan: ServingPlan
    min_replicas: int
    max_replicas: int
    parked_at: datetime | None
    parked_reason: str | None

    @property
    def active(self) -> bool:
        return self.plan != "off" and self.parked_at is None


def tracked(database_url: str) -> tuple[TrackedPair, ...]:
    """Every pair that is known, by name."""
    with transaction(database_url) as cursor:
        cursor.execute(
            "SELECT pair, plan, min_replicas, max_replicas, parked_at, parked_reason FROM pairs ORDER BY pair"
        )
        return tuple(_tracked(row) for row in cursor.fetchall())


def active(database_url: str) -> tuple[TrackedPair, ...]:
    """Those to train and to serve."""
    return tuple(item for item in tracked(database_url) if item.active)


def seed(database_url: str, pairs: Collection[Pair], pooled: Collection[Pair]) -> None:
    """Add what is missing; a pair that is listed already keeps what people made of it."""
    rows = [(pair, "pooled" if pair in pooled else "dedicated") for pair in pairs]
    with transaction(database_url) as cursor:
        execute_values(cursor, "INSERT INTO pairs (pair, plan) VALUES %s ON CONFLICT DO NOTHING", rows)


def put(
    database_url: str,
    pair: Pair,
    *,
    plan: str | None = None,
    min_replicas: int | None = None,
    max_replicas: int | None = None,
) -> TrackedPair:
    """Add a pair, or change what is given of it. Raises InputError naming the field at fault."""
    known = next((item for item in tracked(database_url) if item.pair == pair), None)
    least = min_replicas if min_replicas is not None else known.min_replicas if known else 1
    usual = known.max_replicas if known else DEFAULT_MOST_REPLICAS
    most = max_replicas if max_replicas is not None else max(least, usual)
    chosen = plan if plan is not None else known.plan if known else "dedicated"
    if chosen not in SERVING_PLANS:
        raise InputError(f"{chosen!r} is not a plan: choose from {', '.join(SERVING_PLANS)}", field="plan")
    if not 0 <= least <= most:
        raise InputError(f"{least} is not between 0 and max_replicas, {most}", field="min_replicas")
    if not 1 <= most <= _MOST_REPLICAS:
        raise InputError(f"{most} is not between 1 and {_MOST_REPLICAS}", field="max_replicas")
    return _change(
        database_url,
        "INSERT INTO pairs (pair, plan, min_replicas, max_replicas) VALUES (%(pair)s, %(plan)s, %(least)s, %(most)s)"
        " ON CONFLICT (pair) DO UPDATE SET plan = %(plan)s, min_replicas = %(least)s, max_replicas = %(most)s,"
        " changed_at = now()",
        {"pair": pair, "plan": chosen, "least": least, "most": most},
    )


def park(database_url: str, pair: Pair, reason: str) -> TrackedPair:
    """Let a pair rest, as when the exchange delists it. Parking it again keeps the first time."""
    return _change(
        database_url,
        "UPDATE pairs SET parked_at = coalesce(parked_at, now()), parked_reason = %(reason)s, changed_at = now()"
        " WHERE pair = %(pair)s",
        {"pair": pair, "reason": reason},
    )


def unpark(database_url: str, pair: Pair) -> TrackedPair:
    return _change(
        database_url,
        "UPDATE pairs SET parked_at = NULL, parked_reason = NULL, changed_at = now() WHERE pair = %(pair)s",
        {"pair": pair},
    )


def _change(database_url: str, statement: str, values: dict[str, Any]) -> TrackedPair:
    with transaction(database_url) as cursor:
        cursor.execute(
            f"{statement} RETURNING pair, plan, min_replicas, max_replicas, parked_at, parked_reason", values
        )
        row = cursor.fetchone()
    if row is None:
        raise UnknownPair(f"{values['pair']!r} is not listed: add it first, `mkrich pairs add {values['pair']}`")
    return _tracked(row)


def _tracked(row: Sequence[Any]) -> TrackedPair:
    return TrackedPair(Pair.parse(row[0]), *row[1:])
