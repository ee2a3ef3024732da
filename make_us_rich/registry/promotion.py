"""Decides which version of a model is champion: the only module that moves the aliases `champion` and `previous`.

A Postgres advisory lock for each model name makes decisions sequential over all hosts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from make_us_rich.core.errors import InputError, RegistryError, UnknownVersion
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import Series
from make_us_rich.database import events
from make_us_rich.database.locks import advisory_lock
from make_us_rich.database.pool import Database
from make_us_rich.documents import Comparison
from make_us_rich.registry.client import (
    CHAMPION,
    PREVIOUS,
    TAG_ADAPTED_TO,
    TAG_MARKET,
    TAG_SHIPPED,
    ModelVersion,
    Registry,
)

TAG_DECISION = "promotion"
"""Tag of a version that holds the outcome of its promotion and the reason."""

_BEFORE = "; before: "
_LOCK_TIMEOUT_S = 120.0
_BEYOND_NOISE_T = -2.0  # with this Diebold-Mariano t or a lower one a model is worse beyond noise


class ChampionChanged(RegistryError):
    """The champion is no longer the version that the challenger was compared with: compare again."""


@dataclass(frozen=True)
class PromotionDecision:
    promoted: bool
    reason: str


def decide(comparison: Comparison, *, champion_expired: bool = False) -> PromotionDecision:
    """Apply the promotion rules to a comparison on held-out candles.

    Refuses a challenger that is worse than naive beyond noise in the mean over its horizons. Otherwise promotes it if
    there is no champion, if the champion is expired or not compared by loss, or if the challenger is no worse: see
    `_why_the_champion_stays`.
    """
    if comparison.t_vs_naive <= _BEYOND_NOISE_T:
        return PromotionDecision(False, f"worse than the naive forecast beyond noise: {_figures_vs_naive(comparison)}")
    if comparison.champion_version is None:
        return PromotionDecision(True, "first model of this name")
    if comparison.champion_pinball is None:
        return PromotionDecision(True, "its as_of is newer")
    figures = _figures(comparison, comparison.champion_pinball)
    objection = _why_the_champion_stays(comparison, comparison.champion_pinball)
    if not objection:
        return PromotionDecision(True, figures)
    if champion_expired:
        return PromotionDecision(True, f"the champion is past its expiry ({objection}): {figures}")
    return PromotionDecision(False, f"{objection}: {figures}")


def _why_the_champion_stays(comparison: Comparison, champion_pinball: float) -> str:
    """Return what speaks against the challenger; empty when nothing does.

    It must be no worse in the mean over the horizons, and not worse at the next close beyond noise. If it has more
    horizons than the champion, as against level_mse, the next close alone decides. If both have one, it must be no
    worse there.
    """
    ours, theirs = comparison.challenger_horizons, comparison.champion_horizons
    if ours < theirs:
        return f"it forecasts fewer horizons, {ours} instead of {theirs}"
    mean = comparison.mean
    if mean is not None and mean.challenger > mean.champion:
        return "not better in the mean over the horizons"
    if mean is None and ours == theirs:
        return "not better" if comparison.challenger_pinball > champion_pinball else ""
    worse_at_the_next_close = comparison.t is not None and comparison.t <= _BEYOND_NOISE_T
    return "worse at the next close beyond noise" if worse_at_the_next_close else ""


def _figures(comparison: Comparison, champion_pinball: float) -> str:
    """Return the losses of challenger and champion, with what the challenger saves, in the mean and at one horizon."""
    found, mean, challenger_pinball = [], comparison.mean, comparison.challenger_pinball
    if mean is not None:
        found.append(
            f"{1 - mean.challenger / mean.champion:+.2%} in the mean over {mean.horizons} horizons "
            f"({mean.challenger:.4f} of naive's loss against {mean.champion:.4f}, Diebold-Mariano t {mean.t:+.1f})"
        )
    elif comparison.challenger_horizons > comparison.champion_horizons:
        found.append(
            f"it forecasts {comparison.challenger_horizons} horizons, the champion {comparison.champion_horizons}"
        )
    t = "" if comparison.t is None else f", Diebold-Mariano t {comparison.t:+.1f}"
    found.append(
        f"{1 - challenger_pinball / champion_pinball:+.2%} at the next close "
        f"(held-out pinball {challenger_pinball:.3e} against {champion_pinball:.3e}{t})"
    )
    return f"{'; '.join(found)}; compared with version {comparison.champion_version}"


def _figures_vs_naive(comparison: Comparison) -> str:
    return (
        f"skill {comparison.skill_vs_naive:+.2%} in the mean over the horizons, Diebold-Mariano t "
        f"{comparison.t_vs_naive:+.1f}; at the next close held-out pinball {comparison.challenger_pinball:.3e} against "
        f"{comparison.naive_pinball:.3e}"
    )


def promote(
    registry: Registry, database: Database, challenger: ModelVersion, comparison: Comparison, *, expiry_hours: int
) -> PromotionDecision:
    """Make the challenger the champion if `decide` accepts it and its as_of is no older than the champion's.

    The old champion keeps the alias `previous`, and the reason becomes a tag of the challenger. A champion whose as_of
    is more than `expiry_hours` older counts as expired. Raises ChampionChanged when the champion is no longer the
    version that the challenger was compared with.
    """
    with _lock(database, challenger.name):
        champion = registry.find(challenger.name, CHAMPION)
        version = champion.version if champion else None
        if version == challenger.version:
            # an earlier try may have ended before it recorded the event
            _record_champion(database, challenger, registry.find(challenger.name, PREVIOUS))
            return PromotionDecision(True, "it is the champion already")
        if version != comparison.champion_version:
            raise ChampionChanged(
                f"{challenger.name}: version {challenger.version} was compared with champion "
                f"{comparison.champion_version}, which is {version} now"
            )
        newer_ms = challenger.as_of_ms - champion.as_of_ms if champion else 0
        if newer_ms < 0:
            decision = PromotionDecision(False, "its as_of is older than the champion's: a backfill promotes nothing")
        else:
            decision = decide(comparison, champion_expired=newer_ms > expiry_hours * HOUR_MS)
        if decision.promoted:
            _set_champion(registry, database, challenger, champion)
        _tag_decision(registry, challenger, "promoted" if decision.promoted else "refused", decision.reason)
    return decision


def promote_manually(registry: Registry, database: Database, name: str, version: int, *, by: str) -> PromotionDecision:
    """Make a version the champion because the person `by` says so, without a comparison.

    Raises RegistryError when the version does not exist, or is a foundation that is adapted to one pair.
    """
    with _lock(database, name):
        chosen = registry.get(name, version)
        if pair := chosen.tags.get(TAG_ADAPTED_TO):
            raise RegistryError(f"version {version} of {name} is adapted to {pair}, and cannot serve other pairs")
        return _promote_manually(registry, database, chosen, by)


def promote_shipped(
    registry: Registry, database: Database, name: str, digest: str, publish: Callable[[], int]
) -> PromotionDecision:
    """Make the foundation that ships with the package the champion, in place of none or of another shipped one.

    A foundation of the installation's own stays. `publish` registers the shipped one and returns its version; it is
    called at most once for each `digest`, even when an earlier start was interrupted.
    """
    with _lock(database, name):
        champion = registry.find(name, CHAMPION)
        if champion is not None and not champion.shipped:
            return PromotionDecision(False, f"version {champion.version} is the installation's own")
        if champion is not None and champion.tags[TAG_SHIPPED] == digest:
            return PromotionDecision(True, "it is the champion already")
        tagged = registry.versions_tagged(name, TAG_SHIPPED, digest)
        registered = [version for version in tagged if TAG_ADAPTED_TO not in version.tags]
        challenger = registered[0] if registered else registry.get(name, publish())
        _set_champion(registry, database, challenger, champion)
        instead = (
            f"in place of version {champion.version}, which shipped with another" if champion else "there was none"
        )
        decision = PromotionDecision(True, f"it ships with this version of the package; {instead}")
        _tag_decision(registry, challenger, "promoted", decision.reason)
    return decision


def rollback(registry: Registry, database: Database, name: str, *, by: str) -> PromotionDecision:
    """Make the previous champion the champion again; a second rollback undoes the first.

    Raises RegistryError when there is no previous champion.
    """
    with _lock(database, name):
        previous = registry.find(name, PREVIOUS)
        if previous is None:
            raise UnknownVersion(f"{name} has no previous champion to go back to: see `mkrich models`")
        return _promote_manually(registry, database, previous, by)


def _promote_manually(registry: Registry, database: Database, chosen: ModelVersion, by: str) -> PromotionDecision:
    """Promote `chosen`. The caller holds the lock."""
    champion = registry.find(chosen.name, CHAMPION)
    if champion is not None and champion.version == chosen.version:
        return PromotionDecision(True, "it is the champion already")
    _set_champion(registry, database, chosen, champion)
    reason = f"by {by} at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    _tag_decision(registry, chosen, "promoted manually", f"{reason}{_first_decision(chosen)}")
    if champion is not None:
        replaced = f"by version {chosen.version}, {reason}{_first_decision(champion)}"
        _tag_decision(registry, champion, "replaced", replaced)
    return PromotionDecision(True, f"version {chosen.version} is the champion, {reason}")


def _first_decision(model: ModelVersion) -> str:
    """Return the automatic decision about a version, which is kept next to that of a person."""
    decision = model.tags.get(TAG_DECISION, "").rpartition(_BEFORE)[2]
    is_of_a_person = decision.startswith(("promoted manually", "replaced"))
    return f"{_BEFORE}{decision}" if decision and not is_of_a_person else ""


def _tag_decision(registry: Registry, model: ModelVersion, outcome: str, reason: str) -> None:
    registry.set_tag(model.name, model.version, TAG_DECISION, f"{outcome}: {reason}")


def _set_champion(registry: Registry, database: Database, model: ModelVersion, champion: ModelVersion | None) -> None:
    """Move the aliases, and record the event.

    `previous` moves first, so that a crash in between leaves the old champion in place.
    """
    if champion is not None:
        registry.set_alias(model.name, PREVIOUS, champion.version)
    registry.set_alias(model.name, CHAMPION, model.version)
    _record_champion(database, model, champion)


def _record_champion(database: Database, model: ModelVersion, champion: ModelVersion | None) -> None:
    """Record that a pair's champion changed. The foundation is the model of no pair."""
    market = model.tags.get(TAG_MARKET)
    with suppress(InputError):
        pair, interval = Series.parse(model.name)
        if market:
            previous = champion.version if champion else None
            events.record_champion(
                database, market=market, pair=pair, interval=interval, version=model.version, previous=previous
            )


def _lock(database: Database, name: str) -> AbstractContextManager[None]:
    """Return the lock of one model name. Raises RegistryError when it is held for longer than _LOCK_TIMEOUT_S."""
    late = RegistryError(f"another promotion of {name} takes longer than {_LOCK_TIMEOUT_S:g} s: try again")
    return advisory_lock(database, f"promote {name}", timeout_s=_LOCK_TIMEOUT_S, late=late)
