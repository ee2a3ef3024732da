"""Which model of a pair is served. Decided here and nowhere else, one decision a pair at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg2.errors import QueryCanceled

from make_us_rich.core.errors import RegistryError
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.database.connection import transaction
from make_us_rich.registry.client import CHAMPION, PREVIOUS, TAG_AS_OF_MS, ModelVersion, Registry

TAG_DECISION = "promotion"
"""A version's tag: what was decided about it, and why."""

_LOCK_WITHIN_S = 120.0
_BEYOND_NOISE = -2.0  # Diebold-Mariano t against naive below which a model is worse than it, not unlucky


class ChampionChanged(RegistryError):
    """Another run promoted a model since the challenger was compared: compare again."""


@dataclass(frozen=True)
class Comparison:
    """Challenger against the champion of that moment and the naive forecast, on the same held-out candles.

    Pinball losses are means, in log return. `t` is the Diebold-Mariano statistic of the difference to the champion,
    `t_vs_naive` that to naive: above zero when the challenger is better. champion_version None: there is none;
    champion_pinball None: it is not compared by loss, as foundation models are not.
    """

    champion_version: int | None
    challenger_pinball: float
    champion_pinball: float | None
    t: float | None
    naive_pinball: float
    t_vs_naive: float


@dataclass(frozen=True)
class Decision:
    promoted: bool
    reason: str


def decide(comparison: Comparison, *, champion_expired: bool = False) -> Decision:
    ours, naive = comparison.challenger_pinball, comparison.naive_pinball
    if comparison.t_vs_naive < _BEYOND_NOISE:
        return Decision(
            False,
            f"worse than the naive forecast beyond noise: held-out pinball {ours:.3e} against {naive:.3e}, "
            f"Diebold-Mariano t {comparison.t_vs_naive:+.1f}",
        )
    if comparison.champion_version is None:
        return Decision(True, "first model of this name")
    if comparison.champion_pinball is None:
        return Decision(True, "it knows more of the past")
    theirs = comparison.champion_pinball
    change = (theirs - ours) / theirs
    versus = f"held-out pinball {ours:.3e} against {theirs:.3e} of version {comparison.champion_version}"
    t = "" if comparison.t is None else f", Diebold-Mariano t {comparison.t:+.1f}"
    if ours <= theirs:
        return Decision(True, f"{change:+.2%}: {versus}{t}")
    if champion_expired:
        return Decision(True, f"the champion is past its expiry ({change:+.2%}): {versus}{t}")
    return Decision(False, f"not better ({change:+.2%}): {versus}{t}")


def promote(
    registry: Registry, database_url: str, challenger: ModelVersion, comparison: Comparison, *, expiry_hours: int
) -> Decision:
    """Make the challenger the champion if it is better and no older; the old champion stays as `previous`.

    A champion that is older than `expiry_hours` gives way to a challenger that is not better, unless that one is worse
    than naive. Raises ChampionChanged when the champion is not the one that it was compared with.
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
        age_ms = _as_of_ms(challenger) - _as_of_ms(champion) if champion else 0
        decision = decide(comparison, champion_expired=age_ms > expiry_hours * HOUR_MS)
        if age_ms < 0:
            decision = Decision(False, "it knows less of the past than the champion: a backfill changes nothing")
        if decision.promoted:
            _set_champion(registry, challenger, champion)
        _record(registry, challenger, "promoted" if decision.promoted else "refused", decision.reason)
    return decision


def promote_manually(registry: Registry, database_url: str, name: str, version: int, *, by: str) -> Decision:
    """Make a version of the past the champion, on a person's word. Raises RegistryError for an unknown version."""
    with _lock(database_url, name):
        return _promote_manually(registry, registry.get(name, version), by)


def rollback(registry: Registry, database_url: str, name: str, *, by: str) -> Decision:
    """Let the previous champion serve again; once more undoes it. Raises RegistryError when there is none."""
    with _lock(database_url, name):
        previous = registry.find(name, PREVIOUS)
        if previous is None:
            raise RegistryError(f"{name} has no previous champion to go back to: see `mkrich models`")
        return _promote_manually(registry, previous, by)


def _promote_manually(registry: Registry, chosen: ModelVersion, by: str) -> Decision:
    """The caller holds the lock."""
    champion = registry.find(chosen.name, CHAMPION)
    if champion is not None and champion.version == chosen.version:
        return Decision(True, "it is the champion already")
    _set_champion(registry, chosen, champion)
    reason = f"by {by} at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    _record(registry, chosen, "appointed", reason)
    if champion is not None:
        _record(registry, champion, "replaced", f"by version {chosen.version}, {reason}")
    return Decision(True, f"version {chosen.version} serves, {reason}")


def _record(registry: Registry, model: ModelVersion, verdict: str, reason: str) -> None:
    registry.set_tag(model.name, model.version, TAG_DECISION, f"{verdict}: {reason}")


def _as_of_ms(model: ModelVersion) -> int:
    return int(model.tags.get(TAG_AS_OF_MS, 0))


def _set_champion(registry: Registry, model: ModelVersion, champion: ModelVersion | None) -> None:
    """`previous` first: a crash between the two leaves the champion in place."""
    if champion is not None:
        registry.set_alias(model.name, PREVIOUS, champion.version)
    registry.set_alias(model.name, CHAMPION, model.version)


@contextmanager
def _lock(database_url: str, name: str) -> Iterator[None]:
    """One decision a model at a time, over all hosts; freed by Postgres even if this process dies.

    Raises RegistryError when another decision holds it for too long.
    """
    with transaction(database_url, answer_within_s=_LOCK_WITHIN_S) as cursor:
        try:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"promote {name}",))
        except QueryCanceled:
            raise RegistryError(
                f"another decision about {name} takes longer than {_LOCK_WITHIN_S:g} s: try again"
            ) from None
        yield
