"""What serves a pair, and what the registry knows of the models around it."""

from __future__ import annotations

import logging
import time
from typing import Any

from make_us_rich.core.errors import RegistryError
from make_us_rich.core.settings import Settings
from make_us_rich.registry.client import PREVIOUS, ModelVersion, Registry, foundation_name
from make_us_rich.registry.promotion import TAG_DECISION
from serve_app.replica.forecast import model_facts

_log = logging.getLogger("ray.serve")

_NEWEST = 10


def model_card(settings: Settings, name: str, serving: dict[str, Any]) -> dict[str, Any]:
    """`name`: the pair's own model, `serving`: model_facts of what serves it. Blocks."""
    foundation = serving["name"] == foundation_name(settings.interval)
    try:
        with Registry(settings) as registry:
            now = registry.get(serving["name"], serving["version"])
            previous = registry.find(name, PREVIOUS)
            newest = registry.versions(name, _NEWEST)
    except RegistryError as error:
        _log.warning("%s: what serves is known, its history is not: %s", name, error)
        return serving | {"foundation": foundation, "promotion": None, "previous": None, "newest": None}
    return serving | {
        "foundation": foundation,
        "promotion": now.tags.get(TAG_DECISION),
        "previous": _judged(previous) if previous else None,
        "newest": [_judged(version) for version in newest],
    }


def _judged(version: ModelVersion) -> dict[str, Any]:
    facts = model_facts(version, time.time_ns() // 1_000_000)
    return facts | {"promotion": version.tags.get(TAG_DECISION)}
