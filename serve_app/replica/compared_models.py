"""Forecasts to hold beside the champion's: by the model before it, by that of all pairs, and by none at all."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.errors import BadModel, NotEnoughHistory, RegistryError
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.market.window import Window
from make_us_rich.registry.client import (
    CHAMPION,
    PREVIOUS,
    TAG_ARCHITECTURE,
    TAG_SKILL_VS_NAIVE,
    ModelVersion,
    Registry,
    foundation_name,
    model_name,
)
from serve_app.replica.forecast import Current, Forecast, Loaded, forecast_document
from serve_app.replica.model_cache import ModelCache, ModelKey

FOUNDATION = "foundation"
NAIVE = "naive"

_log = logging.getLogger("ray.serve")

_LOOK_AGAIN_S = 60.0
_FEWEST_CLOSES = 48


class OtherModels:
    """Of one pair. Each is looked up when it is asked for, at most once a minute."""

    def __init__(self, pair: Pair, settings: Settings, model_cache: ModelCache) -> None:
        self._pair = pair
        self._settings = settings
        self._model_cache = model_cache
        self._aliases = {
            PREVIOUS: (model_name(pair, settings.interval), PREVIOUS),
            FOUNDATION: (foundation_name(settings.interval), CHAMPION),
        }
        self._found: dict[str, tuple[float, Loaded | None]] = {}
        self._made: dict[str, Current] = {}

    def forecast(self, choice: str, window: Window, now_ms: int) -> dict[str, Any]:
        """Blocks. What cannot be answered is {"reason": why}, and {"missing": what} when there is no such model."""
        try:
            forecast = naive(self._pair, window) if choice == NAIVE else self._by(choice, window)
        except (BadModel, NotEnoughHistory) as error:
            return {"reason": str(error)}
        except RegistryError as error:
            _log.warning("%s: its %s model cannot be looked up: %s", self._pair, choice, error)
            return {"reason": "the model registry does not answer"}
        if forecast is None:
            name, alias = self._aliases[choice]
            return {"missing": f"{name} has no {alias} yet"}
        return forecast_document(forecast, self._settings, now_ms=now_ms)

    def _by(self, choice: str, window: Window) -> Forecast | None:
        loaded = self._look(choice)
        made = self._made.get(choice)
        if loaded is None or (made is not None and made.loaded is loaded and made.window is window):
            return made if loaded else None
        self._made[choice] = Current.compute(self._pair, loaded, window)
        return self._made[choice]

    def _look(self, choice: str) -> Loaded | None:
        """Raises RegistryError."""
        until, known = self._found.get(choice, (0.0, None))
        if time.monotonic() < until:
            return known
        with Registry(self._settings) as registry:
            version = registry.find(*self._aliases[choice])
            if version is None:
                loaded = None
            elif known is not None and known.key == ModelKey(version.name, version.version, version.run_id):
                loaded = known
            else:
                loaded = Loaded(version, registry.download(version), self._model_cache)
        self._found[choice] = (time.monotonic() + _LOOK_AGAIN_S, loaded)
        return loaded


def naive(pair: Pair, window: Window) -> Forecast:
    """Random walk: the last close, with the quantiles of the window's own returns around it.

    Raises NotEnoughHistory.
    """
    close = window.candles.close
    if len(close) < _FEWEST_CLOSES:
        raise NotEnoughHistory(f"{len(close)} candles without a gap, {_FEWEST_CLOSES} are needed")
    levels: NDArray[np.float64] = np.quantile(np.diff(np.log(close)), QUANTILE_LEVELS)
    tags = {TAG_ARCHITECTURE: NAIVE, TAG_SKILL_VS_NAIVE: "0"}
    version = ModelVersion(NAIVE, 0, run_id="", created_ms=window.as_of_ms, tags=tags)
    return Forecast(pair, version, window, float(close[-1]) * np.exp(levels))
