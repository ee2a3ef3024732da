"""Foundations that are adapted to one pair: versions of the foundation that forecast this pair while it has no model.

Level of volatility and calibration are those of the pair, the weights those of the foundation's champion: see
`adapt_foundation`. An alias of the foundation for each pair names the version that serves the pair. It counts only
while the foundation that it was made of is the champion, and a champion of the pair's own replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.times import current_ms
from make_us_rich.registry.client import (
    CHAMPION,
    TAG_ADAPTED_FROM,
    TAG_ADAPTED_MS,
    TAG_ADAPTED_TO,
    TAG_AS_OF_MS,
    TAG_SHIPPED,
    ModelVersion,
    Registry,
)
from make_us_rich.registry.promotion import TAG_DECISION

_RENEWED_AFTER_MS = 24 * HOUR_MS


def find(registry: Registry, foundation: ModelVersion, pair: Pair) -> ModelVersion | None:
    """Return the version of a foundation that is adapted to the pair, or None. Raises RegistryError."""
    found = registry.find(foundation.name, _alias(pair))
    if found is None or found.tags.get(TAG_ADAPTED_FROM) != str(foundation.version):
        return None
    return found


def reason_against(registry: Registry, foundation: ModelVersion, series: Series, as_of_ms: int) -> str:
    """Return why a foundation need not be adapted to a series as of this time; empty when it must.

    It is adapted once a day, and not as of a past time, as that of a backfill is. Raises RegistryError.
    """
    if registry.find(series.name, CHAMPION) is not None:
        return "it has a model of its own"
    if current_ms() - as_of_ms > _RENEWED_AFTER_MS + series.interval.ms:
        return "only the newest candles are adapted to"
    found = find(registry, foundation, series.pair)
    if found is not None and as_of_ms - int(found.tags[TAG_ADAPTED_MS]) < _RENEWED_AFTER_MS:
        return "it was adapted less than a day before"
    return ""


def register(
    registry: Registry,
    foundation: ModelVersion,
    pair: Pair,
    graph: bytes,
    *,
    as_of_ms: int,
    tags: Mapping[str, str],
    params: Mapping[str, object],
    metrics: Mapping[str, float],
) -> int:
    """Register a graph that `adapt_foundation` made as of `as_of_ms`, and return its version. Raises RegistryError.

    tags: of the adapted model. The tag as_of_ms stays the foundation's, because no weight was trained since.
    """
    kept = {key: foundation.tags[key] for key in (TAG_AS_OF_MS, TAG_SHIPPED) if key in foundation.tags}
    own = {
        TAG_ADAPTED_TO: pair,
        TAG_ADAPTED_FROM: str(foundation.version),
        TAG_ADAPTED_MS: str(as_of_ms),
        TAG_DECISION: f"adapted to {pair} from version {foundation.version}: it serves this pair alone",
    }
    published = registry.publish(
        foundation.name,
        f"{foundation.name} adapted to {pair}",
        graph=graph,
        params=params,
        metrics=metrics,
        tags={**tags, **kept, **own},
        description=own[TAG_DECISION],
    )
    registry.set_alias(foundation.name, _alias(pair), published.version)
    return published.version


def _alias(pair: Pair) -> str:
    return f"adapted_{pair}"
