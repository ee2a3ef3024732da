"""Many pairs in one process, with the real replay exchange; no other server runs."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Series
from make_us_rich.core.settings import Settings
from make_us_rich.documents import ReplicaError
from make_us_rich.forecasting.onnx_model import OnnxModel
from serve_app.replica import updater
from serve_app.replica.forecast import ComputedForecast, ForecastSnapshot
from serve_app.replica.forecaster import Pool
from tests.support.exchange_proxy import ExchangeProxy, counting_exchange_proxy
from tests.support.forecasts import make_forecast

NOWHERE = "http://127.0.0.1:9"
PAIRS = ("btc_usdt", "eth_usdt", "chz_usdt", "sol_usdt", "ada_usdt", "xrp_usdt")


@pytest.fixture
def proxy(exchange_url: str) -> Iterator[ExchangeProxy]:
    with counting_exchange_proxy(exchange_url) as proxy:
        yield proxy
        _wait_for_requests_under_way()  # without the proxy they would be retried, also beside the next test


def _wait_for_requests_under_way() -> None:
    together = threading.Barrier(16)  # the number of threads: all are free at once
    for each in [updater._MARKET_THREADS.submit(together.wait, 60) for _ in range(16)]:
        each.result()


@pytest.fixture(autouse=True)
def _no_candle_closes(now_ms: int) -> None:
    """Each close is one more request of each pair."""


@pytest.fixture
def settings(proxy: ExchangeProxy, tmp_path: Path) -> Settings:
    return Settings(
        cache_folder=str(tmp_path),
        exchange_url=proxy.url,
        market="simulated",
        mlflow_url=NOWHERE,
        database_url="postgresql://nobody:nothing@127.0.0.1:9/none",
    )


def in_a_pool(settings: Settings, pairs: tuple[str, ...], ask: Callable[[Pool], Any]) -> Any:
    """Return what `ask` returns for a pool of these pairs that serves version 1 of each model."""

    async def run() -> Any:
        pool = Pool(settings)
        try:
            names = [f"{pair}_1h" for pair in pairs]
            await pool.reconfigure({name: {"name": name, "version": 1, "run_id": "run-1"} for name in names})
            return await ask(pool)
        finally:
            await pool.reconfigure({})

    return asyncio.run(run())


def keep(settings: Settings, pairs: tuple[str, ...]) -> None:
    """Write the snapshots of these pairs that a process would have left two hours ago."""
    as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000) - 2 * HOUR_MS
    for pair in pairs:
        made = make_forecast(pair, as_of_ms=as_of_ms)
        ForecastSnapshot(Path(settings.cache_folder), Series(made.pair, Interval.H1), "simulated").save(made)


async def _until_fetched(pool: Pool) -> None:
    async with asyncio.timeout(60):
        for pair in PAIRS:
            while isinstance(await pool.call(f"{pair}_1h", "candles", 1), ReplicaError):
                await asyncio.sleep(0.1)


def test_bitcoin_is_fetched_once_for_all_pairs(settings: Settings, proxy: ExchangeProxy) -> None:
    in_a_pool(settings, PAIRS, _until_fetched)
    assert proxy.klines == {f"{pair.removesuffix('_usdt').upper()}USDT": 1 for pair in PAIRS}


def test_models_are_loaded_and_run_off_the_event_loop(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(settings, PAIRS)
    threads: set[str] = set()

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            threads.add(threading.current_thread().name)
            return method(*arguments)

        return called

    monkeypatch.setattr(ForecastSnapshot, "load", noting(ForecastSnapshot.load))
    monkeypatch.setattr(OnnxModel, "load", noting(OnnxModel.load))
    monkeypatch.setattr(OnnxModel, "quantiles", noting(OnnxModel.quantiles))

    states = in_a_pool(settings, PAIRS, lambda pool: pool.states("state"))

    assert all(state.ready for state in states.values())
    assert threads
    assert threading.current_thread().name not in threads


def test_at_a_close_every_forecast_comes_before_the_first_is_saved(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(settings, PAIRS)
    monkeypatch.setattr(os, "cpu_count", lambda: -2)  # two threads compute
    monkeypatch.setattr(updater, "_FIRST_UPDATE_WITHIN_S", 0.1)  # none ends before it is saved
    may_save = threading.Event()
    save = ForecastSnapshot.save

    def save_late(snapshot: ForecastSnapshot, forecast: ComputedForecast) -> None:
        may_save.wait(30)
        save(snapshot, forecast)

    monkeypatch.setattr(ForecastSnapshot, "save", save_late)

    async def until_all_are_fresh(pool: Pool) -> None:
        newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
        try:
            async with asyncio.timeout(25):
                while any((state.as_of_ms or 0) < newest_ms for state in (await pool.states("state")).values()):
                    await asyncio.sleep(0.1)
        finally:
            may_save.set()

    in_a_pool(settings, PAIRS, until_all_are_fresh)


def test_models_answer_while_the_exchange_is_slow_for_every_pair(
    settings: Settings, proxy: ExchangeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updater, "_FIRST_UPDATE_WITHIN_S", 0.1)  # none comes before the exchange answers
    pairs = tuple(f"coin{number}_usdt" for number in range(20))  # more than there are threads
    keep(settings, pairs)
    proxy.gate.clear()

    async def naive(pool: Pool) -> Any:
        try:
            return await asyncio.wait_for(pool.call("coin7_usdt_1h", "forecast", "naive"), 30)
        finally:
            proxy.gate.set()

    assert "30 candles" in in_a_pool(settings, pairs, naive).detail, (
        "the answer says in time that 30 candles are too few"
    )
