"""Keeps the last good model and candles on local disk, so that a replica restarts without registry or exchange."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, model_name
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import Window
from make_us_rich.registry.client import ModelVersion
from serve_app.replica.forecast import ComputedForecast
from serve_app.replica.models import LoadedModel, ModelCache

_log = logging.getLogger("ray.serve")


class ForecastSnapshot:
    """One file for a pair, interval and market, replaced as a whole."""

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
