"""Forecasts to compare with the champion's: by the previous champion, the foundation, the random walk and EWMA."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.distribution import DEFAULT_TAIL
from make_us_rich.core.errors import BadModel, NotEnoughHistory, RegistryError
from make_us_rich.core.pair import Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import HORIZONS, QUANTILE_LEVELS, Forecast, ReplicaError
from make_us_rich.forecasting.live_baselines import ewma_forecast
from make_us_rich.market.window import Window
from make_us_rich.registry.client import (
    CHAMPION,
    PREVIOUS,
    TAG_ARCHITECTURE,
    TAG_HORIZON_SKILLS,
    TAG_SKILL_VS_NAIVE,
    ModelVersion,
    Registry,
)
from serve_app.replica.forecast import ComputedForecast
from serve_app.replica.models import LoadedModel, ModelCache, ModelKey

FOUNDATION = "foundation"
NAIVE = "naive"
EWMA = "ewma"

_log = logging.getLogger("ray.serve")

_TTL_S = 60.0
_FEWEST_CANDLES = 48


class ComparedModels:
    """The other models of one series. Each is looked up in the registry when it is asked for, at most once a minute."""

    def __init__(self, series: Series, settings: Settings, model_cache: ModelCache) -> None:
        self._series = series
        self._settings = settings
        self._model_cache = model_cache
        self._aliases = {PREVIOUS: (series.name, PREVIOUS), FOUNDATION: (foundation_name(series.interval), CHAMPION)}
        self._models: dict[str, tuple[float, LoadedModel | None]] = {}
        self._forecasts: dict[str, ComputedForecast] = {}

    def forecast(self, choice: str, window: Window, now_ms: int) -> Forecast | ReplicaError:
        """Return the forecast of this window by `previous`, `foundation`, `naive` or `ewma`. Blocks."""
        try:
            forecast = self._baseline(choice, window) if choice in _BASELINES else self._compute(choice, window)
        except (BadModel, NotEnoughHistory) as error:
            if choice in _BASELINES:  # enough candles may take weeks: trying again does not help
                return ReplicaError(kind="no-model", detail=f"no {choice} forecast: {error}", field="model")
            return ReplicaError(kind="not-ready", detail=str(error))
        except RegistryError as error:
            _log.warning("%s: the model %r cannot be looked up: %s", self._series.name, choice, error)
            return ReplicaError(kind="not-ready", detail="the model registry does not answer")
        if forecast is None:
            name, alias = self._aliases[choice]
            return ReplicaError(kind="no-model", detail=f"{name} has no {alias} yet", field="model")
        if choice in _BASELINES:
            return forecast.document(self._settings, now_ms=now_ms)
        return forecast.answer(self._settings, now_ms=now_ms)

    def _baseline(self, choice: str, window: Window) -> ComputedForecast:
        """Raises NotEnoughHistory."""
        tags = {TAG_ARCHITECTURE: choice}
        if choice == NAIVE:
            tags |= {TAG_SKILL_VS_NAIVE: "0", TAG_HORIZON_SKILLS: json.dumps([0.0] * HORIZONS)}
        version = ModelVersion(choice, 0, run_id="", created_ms=window.as_of_ms, tags=tags)
        no_graph = LoadedModel(version, b"", self._model_cache)
        tails = np.tile(DEFAULT_TAIL, (HORIZONS, 1))
        prices = float(window.candles.close[-1]) * np.exp(_BASELINES[choice](window))
        return ComputedForecast.of(self._series.pair, no_graph, window, prices, tails)

    def _compute(self, choice: str, window: Window) -> ComputedForecast | None:
        """Raises RegistryError, NotEnoughHistory."""
        model = self._find(choice)
        if model is None:
            return None
        known = self._forecasts.get(choice)
        if known is None or known.model is not model or known.window is not window:
            known = self._forecasts[choice] = ComputedForecast.compute(self._series.pair, model, window)
        return known

    def _find(self, choice: str) -> LoadedModel | None:
        """Raises RegistryError."""
        expires_at, known = self._models.get(choice, (0.0, None))
        if time.monotonic() < expires_at:
            return known
        with Registry(self._settings) as registry:
            version = registry.find(*self._aliases[choice])
            if version is None:
                model = None
            elif known is not None and known.key == ModelKey.of(version):
                model = known
            else:
                model = LoadedModel(version, registry.download(version), self._model_cache)
        if known is not None and known is not model:
            self._model_cache.discard(known.key)
        self._models[choice] = (time.monotonic() + _TTL_S, model)
        return model


def _naive(window: Window) -> NDArray[np.float64]:
    """Return the quantiles [HORIZONS, 7] of the window's log returns over as many candles as the horizon.

    Raises NotEnoughHistory.
    """
    logs = np.log(window.candles.close)
    if len(logs) < _FEWEST_CANDLES:
        raise NotEnoughHistory(f"{len(logs)} candles without a gap, {_FEWEST_CANDLES} are needed")
    levels = [np.quantile(logs[horizon:] - logs[:-horizon], QUANTILE_LEVELS) for horizon in range(1, HORIZONS + 1)]
    return np.stack(levels)


def _ewma(window: Window) -> NDArray[np.float64]:
    """Return the quantiles [HORIZONS, 7] of the coming log returns. Raises NotEnoughHistory."""
    return ewma_forecast(window.candles, window.interval.ms, range(1, HORIZONS + 1))


_BASELINES: Mapping[str, Callable[[Window], NDArray[np.float64]]] = {NAIVE: _naive, EWMA: _ewma}
