"""Which model of a pair is served. Decided here and nowhere else, one decision a pair at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2

from make_us_rich.errors import RegistryError
from make_us_rich.registry import CHAMPION, PREVIOUS, TAG_AS_OF_MS, ModelVersion, Registry

TAG_DECISION = "promotion"


class ChampionChanged(RegistryError):
    """Another run promoted a model since the challenger was compared: compare again."""


@dataclass(frozen=True)
class Comparison:
    """Challenger against the champion of that moment, on the same held-out candles.

    Pinball losses are means, in log return. `t` is the Diebold-Mariano statistic of their difference: above zero
    when the challenger is better.
    """

    champion_version: int | None
    challenger_pinball: float
    champion_pinball: float | None
    t: float | None


@dataclass(frozen=True)
class Decision:
    promoted: bool
    reason: str


def decide(comparison: Comparison) -> Decision:
    if comparison.champion_version is None or comparison.champion_pinball is None:
        return Decision(True, "first model of this pair")
    ours, theirs = comparison.challenger_pinball, comparison.champion_pinball
    change = (theirs - ours) / theirs
    versus = f"held-out pinball {ours:.3e} against {theirs:.3e} of version {comparison.champion_version}"
    t = "" if comparison.t is None else f", Diebold-Mariano t {comparison.t:+.1f}"
    if ours <= theirs:
        return Decision(True, f"{change:+.2%}: {versus}{t}")
    return Decision(False, f"not better ({change:+.2%}): {versus}{t}")


def promote(
    registry: Registry, database_url: str, challenger: ModelVersion, comparison: Comparison
) -> Decision:
    """Make the challenger the champion if it is better and no older; the old champion stays as `previous`.

    Raises ChampionChanged when the champion is not the one that it was compared with.
    """
    with _lock(database_url, challenger.name):
        champion = registry.find(challenger.name, CHAMPION)
        version = champion.version if champion else None
        if version == challenger.version:
            return Decision(True, "it is the champion already")
        if version != comparison.champion_version:
            raise ChampionChanged(
                f"{challenger.name}: version {challenger.version} was compared with champion "
                f"{comparison.champion_version}, which is {version} now"
            )
        decision = decide(comparison)
        if champion is not None and _as_of_ms(challenger) < _as_of_ms(champion):
            decision = Decision(
                False, "it knows less of the past than the champion: a backfill changes nothing"
            )
        if decision.promoted:
            crown(registry, challenger, champion)
        verdict = "promoted" if decision.promoted else "refused"
        registry.set_tag(challenger.name, challenger.version, TAG_DECISION, f"{verdict}: {decision.reason}")
    return decision


def _as_of_ms(model: ModelVersion) -> int:
    return int(model.tags.get(TAG_AS_OF_MS, 0))


def crown(registry: Registry, model: ModelVersion, champion: ModelVersion | None) -> None:
    """`previous` first: a crash between the two leaves the champion in place."""
    if champion is not None:
        registry.set_alias(model.name, PREVIOUS, champion.version)
    registry.set_alias(model.name, CHAMPION, model.version)


@contextmanager
def _lock(database_url: str, name: str) -> Iterator[None]:
    """One decision a model at a time, over all hosts; freed by Postgres even if this process dies."""
    connection = psycopg2.connect(database_url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"promote {name}",))
            yield
    finally:
        connection.close()
