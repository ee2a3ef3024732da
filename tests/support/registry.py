"""What tests read from the model registry, and write to it."""

from __future__ import annotations

import time

import mlflow

from make_us_rich.core.settings import Settings
from make_us_rich.registry.client import (
    CHAMPION,
    TAG_ARCHITECTURE,
    TAG_AS_OF_MS,
    TAG_COVERAGE_80,
    TAG_MARKET,
    TAG_SKILL_MARGIN,
    TAG_SKILL_VS_NAIVE,
    ModelVersion,
    Registry,
)


def champion_of(registry: Registry, name: str) -> ModelVersion:
    """Return the champion of a model that has one."""
    champion = registry.find(name, CHAMPION)
    assert champion is not None, f"{name} has no champion"
    return champion


def version_tags() -> dict[str, str]:
    """Return the tags of a version of a tiny model that has seen all candles up to now."""
    return {
        TAG_AS_OF_MS: str(time.time_ns() // 1_000_000),
        TAG_MARKET: "simulated",
        TAG_ARCHITECTURE: "tiny",
        TAG_SKILL_VS_NAIVE: "0.07",
        TAG_SKILL_MARGIN: "0.01",
        TAG_COVERAGE_80: "0.8",
    }


def register_graph(name: str, graph: bytes, tags: dict[str, str]) -> int:
    """Register a graph as a version of a model, as the pipeline does; returns the version."""
    with Registry(Settings(mlflow_url=mlflow.get_tracking_uri())) as registry:
        published = registry.publish(
            name, f"{name} of a test", graph=graph, params={}, metrics={}, tags=tags, description=""
        )
    return published.version
