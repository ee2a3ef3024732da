"""What tests read from the model registry."""

from __future__ import annotations

from make_us_rich.registry.client import CHAMPION, ModelVersion, Registry


def champion_of(registry: Registry, name: str) -> ModelVersion:
    """Return the champion of a model that has one."""
    champion = registry.find(name, CHAMPION)
    assert champion is not None, f"{name} has no champion"
    return champion
