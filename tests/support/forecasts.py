"""A forecast as a replica has it in memory, by a tiny model from flat candles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.documents import HORIZONS
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import Window
from make_us_rich.registry.client import ModelVersion
from serve_app.replica.forecast import ComputedForecast
from serve_app.replica.models import LoadedModel, ModelCache
from tests.support.tiny_model import tiny_model


def make_forecast(
    pair: str,
    *,
    as_of_ms: int,
    version: int = 1,
    by: str | None = None,
    tags: Mapping[str, str] | None = None,
    horizons: int = HORIZONS,
    interval: Interval = Interval.H1,
) -> ComputedForecast:
    """Return a forecast as of the last close by `as_of_ms`, by version `version` of run `run-{version}`.

    `by`: whose model makes it, such as "foundation"; the pair's own by default. `horizons`: as for `tiny_model`.
    """
    times = interval.last_close_ms(as_of_ms) - interval.ms * np.arange(30, 0, -1)
    column = np.full(30, 100.0)
    candles = Candles(times, column, column, column, column, column)
    graph, parsed = tiny_model(by or pair, interval=interval, horizons=horizons), Pair.parse(pair)
    model = ModelVersion(f"{by or pair}_{interval}", version, f"run-{version}", created_ms=as_of_ms, tags=tags or {})
    loaded = LoadedModel(model, graph, ModelCache(1))
    return ComputedForecast.compute(parsed, loaded, Window(candles, candles, interval))
