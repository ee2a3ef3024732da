"""Publish a fitted model: a run with its parameters and metrics, the ONNX graph, a registered version."""

from __future__ import annotations

import json
from collections.abc import Mapping

from make_us_rich.core.times import from_ms
from make_us_rich.forecasting.evaluation import COVERAGE, SKILL
from make_us_rich.forecasting.onnx_model import DESCRIPTION
from make_us_rich.forecasting.recipe import FittedModel
from make_us_rich.registry.client import (
    TAG_ARCHITECTURE,
    TAG_AS_OF_MS,
    TAG_COVERAGE_80,
    TAG_HORIZON_COVERAGES,
    TAG_HORIZON_SKILLS,
    TAG_MARKET,
    TAG_SKILL_MARGIN,
    TAG_SKILL_VS_NAIVE,
    ModelVersion,
    Registry,
)


def publish(
    registry: Registry, fitted: FittedModel, *, name: str, as_of_ms: int, market: str, tags: Mapping[str, str]
) -> ModelVersion:
    """Register a fitted model under `name`, without an alias. Raises RegistryError."""
    return registry.publish(
        name,
        f"{name} as of {from_ms(as_of_ms):%Y-%m-%d %H:%M} UTC",
        graph=fitted.onnx,
        weights=fitted.weights,
        params=fitted.params,
        metrics=fitted.metrics,
        curves=fitted.curves,
        tags=version_tags(fitted, as_of_ms, market) | dict(tags),
        description=DESCRIPTION,
    )


def version_tags(fitted: FittedModel, as_of_ms: int, market: str) -> dict[str, str]:
    """Return the tags that describe a model in the registry."""
    return {
        TAG_AS_OF_MS: str(as_of_ms),
        TAG_MARKET: market,
        TAG_ARCHITECTURE: str(fitted.params["architecture"]),
        TAG_SKILL_VS_NAIVE: repr(fitted.metrics["skill_vs_naive"]),
        TAG_SKILL_MARGIN: repr(fitted.metrics["skill_margin"]),
        TAG_COVERAGE_80: repr(fitted.metrics["coverage_80"]),
        TAG_HORIZON_SKILLS: _by_horizon(fitted, SKILL),
        TAG_HORIZON_COVERAGES: _by_horizon(fitted, COVERAGE),
    }


def _by_horizon(fitted: FittedModel, name: str) -> str:
    """Return a metric at each horizon, 1 candle ahead first, as a JSON list.

    Not rounded, so that readers recognise the first one as the model's own figure.
    """
    return json.dumps([fitted.metrics[f"{name}_h{horizon:02d}"] for horizon in range(1, fitted.holdout.horizons + 1)])
