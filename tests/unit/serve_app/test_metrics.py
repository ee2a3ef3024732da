"""The gauges of a replica, without Ray: how often they are set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Series
from make_us_rich.core.settings import Settings
from make_us_rich.market import exchange
from serve_app import metrics
from serve_app.metrics import ReplicaMetrics
from serve_app.replica import updater
from serve_app.replica.forecast import ForecastSnapshot
from serve_app.replica.forecaster import Forecaster
from serve_app.replica.models import ModelCache
from tests.support.forecasts import make_forecast

SERIES = Series(BITCOIN, Interval.H1)
NOWHERE = "http://127.0.0.1:9"
RAY_EXPORTS_EVERY_S = 10.0  # and drops what was not set for two exports


def test_the_gauges_are_set_between_any_two_exports_of_ray() -> None:
    assert 2 * metrics.GAUGES_EVERY_S <= RAY_EXPORTS_EVERY_S


def test_the_gauges_of_a_forecast_are_set_again_until_its_replica_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a snapshot, and while neither exchange nor MLflow answers: nothing is computed all the while."""
    as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000) - 3 * HOUR_MS
    kept = make_forecast("btc_usdt", as_of_ms=as_of_ms, version=3)
    monkeypatch.setattr(exchange, "_MAX_ATTEMPTS", 1)
    monkeypatch.setattr(updater, "GAUGES_EVERY_S", 0.001)
    settings = Settings(
        cache_folder=str(tmp_path),
        exchange_url=NOWHERE,
        mlflow_url=NOWHERE,
        database_url="postgresql://nobody:nothing@127.0.0.1:9/none",
    )
    ForecastSnapshot(tmp_path, SERIES, settings.market).save(kept)
    seen: list[tuple[Series, int]] = []

    def forecast_served(_: ReplicaMetrics, series: Series, *, as_of_ms: int, **__: int) -> None:
        seen.append((series, as_of_ms))

    monkeypatch.setattr(ReplicaMetrics, "forecast_served", forecast_served)

    async def run() -> int:
        replica = Forecaster(SERIES, settings, ModelCache(2))
        await replica.reconfigure({"name": SERIES.name, "version": 3, "run_id": "run-3"})
        await _until(lambda: len(seen) > 3)
        replica.close()
        await asyncio.sleep(0)  # cancels the task
        count = len(seen)
        await asyncio.sleep(0.01)
        return count

    assert asyncio.run(run()) == len(seen)
    assert set(seen) == {(SERIES, as_of_ms)}


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)
