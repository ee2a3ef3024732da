"""Forecasts to compare with the champion's: by the previous champion, the foundation, the random walk and EWMA."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

import numpy as np

from make_us_rich.core.distribution import DEFAULT_TAIL
from make_us_rich.core.errors import BadModel, NotEnoughHistory, RegistryError
from make_us_rich.core.pair import Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import HORIZONS, Forecast, ReplicaError
from make_us_rich.forecasting.baselines import EWMA, NAIVE
from make_us_rich.forecasting.live_baselines import candles_needed, newest_forecast
from make_us_rich.market.window import Window
from make_us_rich.registry.client import (
    CHAMPION,
    PREVIOUS,
    REQUEST_TIMEOUT_S,
    TAG_ARCHITECTURE,
    TAG_HORIZON_SKILLS,
    TAG_SKILL_VS_NAIVE,
    ModelVersion,
    Registry,
)
from serve_app.replica.forecast import ComputedForecast
from serve_app.replica.models import LoadedModel, ModelCache, ModelKey
from serve_app.single_flight import SharedCalls

FOUNDATION = "foundation"

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = logging.getLogger("ray.serve")

_TTL_S = 60.0
_FAILURE_TTL_S = 10.0
# Of their own, so that neither a silent MLflow nor a slow model holds up what is served.
_THREADS = ThreadPoolExecutor(4, thread_name_prefix="compared")


@dataclass(frozen=True, eq=False)
class _LookUp:
    """What the registry said of a model; `model` is None where there is none."""

    model: LoadedModel | None
    failure: str
    expires_at: float

    @property
    def is_valid(self) -> bool:
        return time.monotonic() < self.expires_at


@dataclass(frozen=True, eq=False)
class _Computed:
    """A model's forecast of a window, or why there is none."""

    model: LoadedModel
    window: Window
    forecast: ComputedForecast | None
    failure: str


class ComparedModels:
    """The other models of one series. Each is looked up in the registry when it is asked for, at most once a minute."""

    def __init__(self, series: Series, settings: Settings, model_cache: ModelCache) -> None:
        self._series = series
        self._settings = settings
        self._model_cache = model_cache
        self._aliases = {PREVIOUS: (series.name, PREVIOUS), FOUNDATION: (foundation_name(series.interval), CHAMPION)}
        self._found: dict[str, _LookUp] = {}
        self._look_ups: SharedCalls[str, _LookUp] = SharedCalls()
        self._computed: dict[str, _Computed] = {}

    async def forecast(self, choice: str, window: Window, now_ms: int) -> Forecast | ReplicaError:
        """Return the forecast of this window by `previous`, `foundation`, `naive` or `ewma`."""
        if choice in (NAIVE, EWMA):
            return await _in_thread(self._forecast_baseline, choice, window, now_ms)
        found = await self._find(choice)
        if found.failure:
            return ReplicaError(kind="not-ready", detail=found.failure)
        if found.model is None:
            name, alias = self._aliases[choice]
            return ReplicaError(kind="no-model", detail=f"{name} has no {alias} yet", field="model")
        computed = self._computed.get(choice)
        if computed is None or computed.model is not found.model or computed.window is not window:
            computed = self._computed[choice] = await _in_thread(self._compute, found.model, window)
        if computed.forecast is None:
            return ReplicaError(kind="not-ready", detail=computed.failure)
        return computed.forecast.answer(self._settings, now_ms=now_ms)

    def _forecast_baseline(self, choice: str, window: Window, now_ms: int) -> Forecast | ReplicaError:
        try:
            return self._baseline(choice, window).document(self._settings, now_ms=now_ms)
        except NotEnoughHistory as error:  # enough candles may take weeks: trying again does not help
            return ReplicaError(kind="no-model", detail=f"no {choice} forecast: {error}", field="model")

    def _baseline(self, choice: str, window: Window) -> ComputedForecast:
        """Raises NotEnoughHistory."""
        tags = {TAG_ARCHITECTURE: choice}
        if choice == NAIVE:
            tags |= {TAG_SKILL_VS_NAIVE: "0", TAG_HORIZON_SKILLS: json.dumps([0.0] * HORIZONS)}
        version = ModelVersion(choice, 0, run_id="", created_ms=window.as_of_ms, tags=tags)
        no_graph = LoadedModel(version, b"", self._model_cache)
        tails = np.tile(DEFAULT_TAIL, (HORIZONS, 1))
        step = window.interval.ms
        whole = window.at_least(candles_needed(choice, step))
        returns = newest_forecast(choice, whole.candles, step, range(1, HORIZONS + 1))
        prices = float(window.candles.close[-1]) * np.exp(returns)
        bridged = whole.is_bridged(len(whole.candles))
        return ComputedForecast.of(self._series.pair, no_graph, window, prices, tails, bridged=bridged)

    def _compute(self, model: LoadedModel, window: Window) -> _Computed:
        try:
            return _Computed(model, window, ComputedForecast.compute(self._series.pair, model, window), "")
        except (BadModel, NotEnoughHistory) as error:
            return _Computed(model, window, None, str(error))

    async def _find(self, choice: str) -> _LookUp:
        """Look a model up, in three seconds at most. Single-flight; a failure is remembered for ten seconds."""
        found = self._found.get(choice)
        if found is not None and found.is_valid:
            return found
        known = found.model if found else None
        return await self._look_ups.join(choice, lambda: self._look_up(choice, known))

    async def _look_up(self, choice: str, known: LoadedModel | None) -> _LookUp:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                model = await _in_thread(self._fetch, choice, known)
        except (RegistryError, TimeoutError) as error:
            _log.warning("%s: the model %r cannot be looked up: %s", self._series.name, choice, error)
            # the model that is known may be another one's by now, so it is kept and not used
            detail = "the model registry does not answer"
            found = _LookUp(known, detail, time.monotonic() + _FAILURE_TTL_S)
        else:
            if known is not None and known is not model:
                self._model_cache.discard(known.key)
            found = _LookUp(model, "", time.monotonic() + _TTL_S)
        self._found[choice] = found
        return found

    def _fetch(self, choice: str, known: LoadedModel | None) -> LoadedModel | None:
        """Return the model that the registry names; `known` if it still is that. Raises RegistryError."""
        with Registry.for_requests(self._settings) as registry:
            version = registry.find(*self._aliases[choice])
            if version is None:
                return None
            if known is not None and known.key == ModelKey.of(version):
                return known
            return LoadedModel(version, registry.download(version), self._model_cache)


async def _in_thread(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work, *arguments)
