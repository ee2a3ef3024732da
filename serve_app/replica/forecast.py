"""A computed forecast, the document that the API gives of it, and its snapshot on local disk."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, foundation_name, model_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import Flags, Forecast, Quantiles
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import Window
from make_us_rich.registry.client import TAG_MARKET, ModelVersion
from serve_app.replica.models import LoadedModel, ModelCache

_log = logging.getLogger("ray.serve")

# After this time without the candle of the latest close, the forecast is called stale.
_STALE_AFTER_MS = 120_000


@dataclass(frozen=True, eq=False)
class ComputedForecast:
    """A model, a window of candles, and the forecast that they give: prices [7] of the next close, quote currency.

    It is replaced as a whole and never changed, so its parts always belong together.
    """

    pair: Pair
    model: LoadedModel
    window: Window
    prices: NDArray[np.float64]

    @classmethod
    def compute(cls, pair: Pair, model: LoadedModel, window: Window) -> ComputedForecast:
        """Raises BadModel when the model's answer cannot be a forecast, NotEnoughHistory after a recent gap."""
        return cls(pair, model, window, model.session.quantiles(window.candles, window.reference))

    @property
    def last_close(self) -> float:
        return float(self.window.candles.close[-1])

    @property
    def by_foundation(self) -> bool:
        """True for the foundation model, which serves pairs without a champion of their own."""
        return self.model.version.name == foundation_name(self.window.interval)

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
            quantiles=Quantiles.of(self.prices.tolist()),
            model=model,
            flags=Flags(
                stale=model_is_late or now_ms >= close_ms + _STALE_AFTER_MS,
                simulated="simulated" in (settings.market, version.tags.get(TAG_MARKET)),
                expired=model.age_hours > settings.model_expiry_hours,
                foundation=self.by_foundation,
            ),
        )


class ForecastSnapshot:
    """Keeps the last good model and candles on disk, so that a replica restarts without registry or exchange.

    One file for a pair, interval and market, replaced as a whole.
    """

    def __init__(self, folder: Path, pair: Pair, interval: Interval, market: str) -> None:
        self._pair = pair
        self._interval = interval
        self._path = folder / f"{market}-{model_name(pair, interval)}.npz"

    def save(self, forecast: ComputedForecast) -> None:
        """Write the file. A failure, such as a full disk, is only logged: it costs the next restart, not a forecast."""
        version = json.dumps(asdict(forecast.model.version) | {"tags": dict(forecast.model.version.tags)})
        arrays: dict[str, NDArray[Any]] = {
            "graph": np.frombuffer(forecast.model.graph, np.uint8),
            "version": np.frombuffer(version.encode(), np.uint8),
            **_columns("candles", forecast.window.candles),
            **_columns("reference", forecast.window.reference),
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
            model = LoadedModel(version, graph, model_cache)
            return ComputedForecast.compute(self._pair, model, Window(candles, reference, self._interval))
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with the file, the replica starts without it
            _log.warning("the snapshot %s cannot be used: %s", self._path, error)
            return None


def _columns(name: str, candles: Candles) -> dict[str, NDArray[Any]]:
    return {f"{name}.{field.name}": getattr(candles, field.name) for field in fields(candles)}
