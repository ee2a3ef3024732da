"""The last good model and candles on local disk, so that a replica restarts without registry or exchange."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import Window
from make_us_rich.registry.client import ModelVersion, model_name
from serve_app.replica.forecast import Current, Loaded
from serve_app.replica.model_cache import ModelCache

_log = logging.getLogger("ray.serve")


class ForecastSnapshot:
    """One file for a pair, interval and market, replaced as a whole."""

    def __init__(self, folder: Path, pair: Pair, interval: Interval, market: str) -> None:
        self._pair = pair
        self._interval = interval
        self._path = folder / f"{market}-{model_name(pair, interval)}.npz"

    def save(self, current: Current) -> None:
        """A full disk costs the next restart, not this forecast: failures are logged."""
        version = json.dumps(asdict(current.version) | {"tags": dict(current.version.tags)})
        arrays: dict[str, Any] = {
            "graph": np.frombuffer(current.loaded.graph, np.uint8),
            "version": np.frombuffer(version.encode(), np.uint8),
            **_columns("candles", current.window.candles),
            **_columns("reference", current.window.reference),
        }
        draft = self._path.with_suffix(f".{os.getpid()}.draft")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            draft.replace(self._path)
        except OSError as error:
            _log.warning("%s cannot be kept for a restart: %s", self._path, error)

    def load(self, model_cache: ModelCache) -> Current | None:
        """None when nothing was kept, or what was kept cannot be used any more."""
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                graph = kept["graph"].tobytes()
                version = ModelVersion(**json.loads(kept["version"].tobytes()))
                candles, reference = (
                    Candles(*(kept[f"{name}.{field.name}"] for field in fields(Candles)))
                    for name in ("candles", "reference")
                )
            loaded = Loaded(version, graph, model_cache)
            return Current.compute(self._pair, loaded, Window(candles, reference, self._interval))
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with the file, the answer is to do without it
            _log.warning("%s is of no use: %s", self._path, error)
            return None


def _columns(name: str, candles: Candles) -> dict[str, np.ndarray]:
    return {f"{name}.{field.name}": getattr(candles, field.name) for field in fields(candles)}
