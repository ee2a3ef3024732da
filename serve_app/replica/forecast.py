"""A computed forecast, the document that the API gives of it, and its snapshot on local disk."""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.distribution import expected_move, probability_below, standard_deviation
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import Pair, Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import (
    HORIZONS_WITH_PROBABILITY_UP,
    Flags,
    Forecast,
    HorizonForecast,
    Quantiles,
    ReplicaError,
    Tail,
)
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import Window
from make_us_rich.registry.client import TAG_MARKET, ModelVersion
from serve_app.replica.models import LoadedModel, ModelCache

_log = logging.getLogger("ray.serve")

# After this time without the candle of the latest close, the forecast is called stale.
_STALE_AFTER_MS = 120_000
_YEAR_MS = 365 * 24 * HOUR_MS


@dataclass(frozen=True, eq=False)
class ComputedForecast:
    """A model, a window of candles, and the forecasts that they give, of the next close first.

    It is replaced as a whole and never changed, so its parts always belong together.
    """

    pair: Pair
    model: LoadedModel
    window: Window
    horizons: tuple[HorizonForecast, ...]
    bridged: bool = False

    @classmethod
    def compute(cls, pair: Pair, model: LoadedModel, window: Window, *, strictly: bool = False) -> ComputedForecast:
        """Forecast from a window. `strictly`: make up no candles that it lacks at its beginning.

        Raises BadModel when the model's answer cannot be a forecast, NotEnoughHistory when there are too few candles.
        """
        session = model.session
        count = session.context_length
        whole = window if strictly else window.at_least(count)
        prices = session.quantiles(whole.candles, whole.reference)
        return cls.of(pair, model, window, prices, session.tails, bridged=whole.is_bridged(count))

    @classmethod
    def of(
        cls,
        pair: Pair,
        model: LoadedModel,
        window: Window,
        prices: NDArray[np.float64],
        tails: NDArray[np.float64],
        *,
        bridged: bool = False,
    ) -> ComputedForecast:
        """Build the forecast from prices [horizons, 7], quote currency, and tails [horizons, 2]."""
        return cls(pair, model, window, _horizon_forecasts(model.version, window, prices, tails), bridged)

    @property
    def last_close(self) -> float:
        return float(self.window.candles.close[-1])

    def is_past(self, now_ms: int) -> bool:
        """True when every close that it forecasts is past."""
        return now_ms >= self.horizons[-1].target_close_ms

    @property
    def by_foundation(self) -> bool:
        """True for the foundation model, which serves pairs without a champion of their own."""
        return self.model.version.name == foundation_name(self.window.interval)

    def answer(self, settings: Settings, *, now_ms: int, model_is_late: bool = False) -> Forecast | ReplicaError:
        """Return the document; a ReplicaError when the model is too old to serve, for any caller and any candles."""
        if refusal := self.refusal(settings, now_ms=now_ms):
            return ReplicaError(kind="not-ready", detail=refusal)
        return self.document(settings, now_ms=now_ms, model_is_late=model_is_late)

    def refusal(self, settings: Settings, *, now_ms: int) -> str:
        """Return why the model is too old to serve; empty when it is not.

        Up to twice its expiry a model serves with a warning; the shipped foundation does until there is another model.
        """
        version = self.model.version
        age_hours = (now_ms - version.as_of_ms) / HOUR_MS
        if age_hours <= 2 * settings.model_expiry_hours or version.shipped:
            return ""
        return f"its model has seen nothing for {age_hours:.0f} hours: it waits for a new one"

    def document(self, settings: Settings, *, now_ms: int, model_is_late: bool = False) -> Forecast:
        """Return the forecast as the API gives it. `model_is_late`: a newer champion could not be fetched yet."""
        version = self.model.version
        model = version.describe(now_ms)
        close_ms = self.window.as_of_ms + self.window.interval.ms
        return Forecast(
            pair=self.pair,
            interval=self.window.interval,
            market=settings.market,
            as_of_ms=self.window.as_of_ms,
            last_close=self.last_close,
            target_open_ms=self.window.as_of_ms,
            target_close_ms=close_ms,
            quantiles=self.horizons[0].quantiles,
            horizons=self.horizons,
            model=model,
            flags=Flags(
                stale=model_is_late or now_ms >= close_ms + _STALE_AFTER_MS,
                simulated="simulated" in (settings.market, version.tags.get(TAG_MARKET)),
                expired=model.age_hours > settings.model_expiry_hours,
                foundation=self.by_foundation,
                bridged=self.bridged,
            ),
        )


def _horizon_forecasts(
    version: ModelVersion, window: Window, prices: NDArray[np.float64], tails: NDArray[np.float64]
) -> tuple[HorizonForecast, ...]:
    log_returns = np.log(prices / window.candles.close[-1])
    moves = expected_move(log_returns, tails)
    deviations = standard_deviation(log_returns, tails)
    up = 1 - probability_below(np.zeros(len(tails)), log_returns, tails)
    step_ms = window.interval.ms
    skills, coverages = version.horizon_skills, version.horizon_coverages
    forecasts = []
    for index, (scale, shape) in enumerate(tails.tolist()):
        horizon, quantiles = index + 1, prices[index].tolist()
        forecasts.append(
            HorizonForecast(
                horizon=horizon,
                target_close_ms=window.as_of_ms + horizon * step_ms,
                quantiles=Quantiles.of(quantiles),
                tail=Tail(scale=scale, shape=shape),
                probability_up=float(up[index]) if horizon <= HORIZONS_WITH_PROBABILITY_UP else None,
                expected_move=float(moves[index]),
                volatility=float(deviations[index]) * math.sqrt(_YEAR_MS / (horizon * step_ms)),
                skill_vs_naive=skills[index] if index < len(skills) else None,
                coverage_80=coverages[index] if index < len(coverages) else None,
            )
        )
    return tuple(forecasts)


class ForecastSnapshot:
    """Keeps the last good model and candles on disk, so that a replica restarts without registry or exchange.

    One file for a series and a market, replaced as a whole.
    """

    def __init__(self, folder: Path, series: Series, market: str) -> None:
        self._series = series
        self._path = folder / f"{market}-{series.name}.npz"

    def save(self, forecast: ComputedForecast) -> None:
        """Write the file. A failure, such as a full disk, is only logged: it costs the next restart, not a forecast."""
        version = json.dumps(asdict(forecast.model.version) | {"tags": dict(forecast.model.version.tags)})
        arrays: dict[str, NDArray[Any]] = {
            "graph": np.frombuffer(forecast.model.graph, np.uint8),
            "version": np.frombuffer(version.encode(), np.uint8),
            **_columns("candles", forecast.window.candles),
            **_columns("reference", forecast.window.reference),
            "bridged_until_ms": np.array(forecast.window.bridged_until_ms),
        }
        draft = self._path.with_suffix(f".{os.getpid()}.draft")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            draft.replace(self._path)
        except OSError as error:
            _log.warning("the snapshot %s cannot be written: %s", self._path, error)

    def load(self, model_cache: ModelCache) -> ComputedForecast | None:
        """Return the forecast of the snapshot; None when there is none, or when it cannot be used any more."""
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                graph = kept["graph"].tobytes()
                version = ModelVersion(**json.loads(kept["version"].tobytes()))
                candles, reference = (
                    Candles(*(kept[f"{name}.{field.name}"] for field in fields(Candles)))
                    for name in ("candles", "reference")
                )
                bridged_until_ms = int(kept["bridged_until_ms"]) if "bridged_until_ms" in kept else 0
            model = LoadedModel(version, graph, model_cache)
            window = Window(candles, reference, self._series.interval, bridged_until_ms)
            return ComputedForecast.compute(self._series.pair, model, window)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with the file, the replica starts without it
            _log.warning("the snapshot %s cannot be used: %s", self._path, error)
            return None


def _columns(name: str, candles: Candles) -> dict[str, NDArray[Any]]:
    return {f"{name}.{field.name}": getattr(candles, field.name) for field in fields(candles)}
