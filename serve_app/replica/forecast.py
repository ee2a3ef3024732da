"""What a replica serves: one model, one window of candles, and the forecast they make together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.documents import QUANTILE_NAMES
from make_us_rich.forecasting.onnx_model import OnnxModel
from make_us_rich.market.window import Window
from make_us_rich.registry.client import (
    TAG_ARCHITECTURE,
    TAG_AS_OF_MS,
    TAG_COVERAGE_80,
    TAG_MARKET,
    TAG_SKILL_MARGIN,
    TAG_SKILL_VS_NAIVE,
    ModelVersion,
    foundation_name,
)
from serve_app.replica.model_cache import ModelCache, ModelKey

# How long after a close its candle may take to reach us before the forecast is called stale.
GRACE_MS = 120_000


@dataclass(frozen=True, eq=False)
class Loaded:
    """`model` is loaded when it is asked for; its graph is always at hand."""

    version: ModelVersion
    graph: bytes
    model_cache: ModelCache

    @property
    def model(self) -> OnnxModel:
        """Raises BadModel."""
        return self.model_cache.take(self.key, self.graph)

    @property
    def key(self) -> ModelKey:
        return ModelKey(self.version.name, self.version.version, self.version.run_id)


@dataclass(frozen=True, eq=False)
class Forecast:
    """Replaced as a whole, never changed: whoever holds one holds a consistent forecast.

    quantiles: prices [7] of the next close, quote currency.
    """

    pair: Pair
    version: ModelVersion
    window: Window
    quantiles: NDArray[np.float64]

    @property
    def foundation(self) -> bool:
        """By the model of all pairs, which serves those that have none of their own."""
        return self.version.name == foundation_name(self.window.interval)


@dataclass(frozen=True, eq=False)
class Current(Forecast):
    """With the model that made it."""

    loaded: Loaded

    @classmethod
    def compute(cls, pair: Pair, loaded: Loaded, window: Window) -> Current:
        """Raises BadModel when the model's answer cannot be a forecast, NotEnoughHistory after a recent gap."""
        quantiles = loaded.model.quantiles(window.candles, window.reference)
        return cls(pair, loaded.version, window, quantiles, loaded)

    @property
    def key(self) -> ModelKey:
        return self.loaded.key


def forecast_document(forecast: Forecast, settings: Settings, *, now_ms: int, waiting: bool = False) -> dict[str, Any]:
    """The forecast as the API gives it. `waiting`: a newer champion is known but could not be fetched yet."""
    as_of_ms = forecast.window.as_of_ms
    step_ms = forecast.window.interval.ms
    model = model_facts(forecast.version, now_ms)
    return {
        "pair": str(forecast.pair),
        "interval": forecast.window.interval,
        "market": settings.market,
        "as_of_ms": as_of_ms,
        "last_close": float(forecast.window.candles.close[-1]),
        "target_open_ms": as_of_ms,
        "target_close_ms": as_of_ms + step_ms,
        "quantiles": dict(zip(QUANTILE_NAMES, forecast.quantiles.tolist(), strict=True)),
        "model": model,
        "flags": {
            "stale": waiting or now_ms >= as_of_ms + step_ms + GRACE_MS,
            "simulated": "simulated" in (settings.market, forecast.version.tags.get(TAG_MARKET)),
            "expired": model["age_hours"] > settings.model_expiry_hours,
            "foundation": forecast.foundation,
        },
    }


def model_facts(version: ModelVersion, now_ms: int) -> dict[str, Any]:
    """What readers of a forecast want to know of its model. Skill and coverage are None when never measured."""
    as_of_ms = model_as_of_ms(version)
    return {
        "name": version.name,
        "version": version.version,
        "as_of_ms": as_of_ms,
        "architecture": version.tags.get(TAG_ARCHITECTURE, "unknown"),
        "skill_vs_naive": _number(version.tags.get(TAG_SKILL_VS_NAIVE)),
        "skill_margin": _number(version.tags.get(TAG_SKILL_MARGIN)),
        "coverage_80": _number(version.tags.get(TAG_COVERAGE_80)),
        "age_hours": round((now_ms - as_of_ms) / HOUR_MS, 2),
    }


def model_as_of_ms(version: ModelVersion) -> int:
    """The close of the newest candle that the model has seen."""
    return int(version.tags.get(TAG_AS_OF_MS, version.created_ms))


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
