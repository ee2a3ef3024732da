"""An MLflow that accepts requests and never answers them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from make_us_rich.accounts import Accounts
from make_us_rich.core.errors import RegistryError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from make_us_rich.documents import Forecast, ReplicaError
from make_us_rich.registry import client
from make_us_rich.registry.client import Registry
from serve_app.gateway import forecast_service
from serve_app.gateway.forecast_service import ForecastService
from serve_app.metrics import GatewayMetrics
from serve_app.replica import compared_models, models, updater
from serve_app.replica.forecast import ForecastSnapshot
from serve_app.replica.forecaster import Forecaster, Pool, WantedModel
from serve_app.replica.models import ModelCache
from tests.support.forecasts import make_forecast
from tests.support.local_replica_client import LocalReplicaClient
from tests.support.raw_server import RawServer, Send, raw_server

# Without a limit anywhere, a test ends here.
pytestmark = pytest.mark.timeout(120)

PAIRS = ("btc_usdt", "eth_usdt", "chz_usdt", "ada_usdt")
PATIENCE_S = 40.0


@pytest.fixture
def mlflow() -> Iterator[RawServer]:
    ended = threading.Event()

    def stay_silent(_: str, __: Send) -> None:
        ended.wait()

    with raw_server(stay_silent) as server:
        yield server
        ended.set()


@pytest.fixture
def settings(mlflow: RawServer, exchange_url: str, tmp_path: Path) -> Settings:
    """Return settings by which each pair has a snapshot, two hours old, by version 1 of its model."""
    made = Settings(
        market="simulated",
        exchange_url=exchange_url,
        mlflow_url=mlflow.url,
        database_url="postgresql://nobody:nothing@127.0.0.1:9/none",
        cache_folder=str(tmp_path),
    )
    as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000) - 2 * HOUR_MS
    for pair in PAIRS:
        kept = make_forecast(pair, as_of_ms=as_of_ms)
        ForecastSnapshot(tmp_path, Series(kept.pair, Interval.H1), "simulated").save(kept)
    return made


def _wanted(pair: str, version: int) -> WantedModel:
    return {"name": f"{pair}_1h", "version": version, "run_id": f"run-{version}"}


def _one_default_thread() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


def test_new_candles_are_forecast_while_no_wanted_model_can_be_fetched(
    settings: Settings, mlflow: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_FETCH_TIMEOUT_S", 10 * PATIENCE_S)
    monkeypatch.setattr(updater, "_FIRST_UPDATE_WITHIN_S", 0.1)
    newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)

    async def until_all_are_fresh() -> list[str]:
        _one_default_thread()
        pool = Pool(settings)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await pool.reconfigure({f"{pair}_1h": _wanted(pair, 2) for pair in PAIRS})
                while any(state.as_of_ms < newest_ms for state in (await pool.states("state")).values()):
                    await asyncio.sleep(0.05)
                return sorted(str(state.serves) for state in (await pool.states("state")).values())
        finally:
            await pool.reconfigure({})

    assert asyncio.run(until_all_are_fresh()) == sorted(f"version 1 of {pair}_1h" for pair in PAIRS)
    assert mlflow.requests


def test_a_model_to_compare_with_holds_up_no_other_answer(
    settings: Settings, mlflow: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compared_models, "REQUEST_TIMEOUT_S", 0.2)

    async def ask() -> tuple[list[Forecast | ReplicaError], Forecast | ReplicaError]:
        _one_default_thread()
        replica = Forecaster(Series.parse("btc_usdt_1h"), settings, ModelCache(2))
        await replica.reconfigure(_wanted("btc_usdt", 1))
        try:
            async with asyncio.timeout(PATIENCE_S):
                compared = [asyncio.create_task(replica.forecast(each)) for each in ("previous", "foundation") * 3]
                await asyncio.sleep(0)
                own = await replica.forecast_from(make_forecast("btc_usdt", as_of_ms=HOUR_MS * 50).window.candles, None)
                return [*await asyncio.gather(*compared), await replica.forecast("previous")], own
        finally:
            replica.close()

    compared, own = asyncio.run(ask())
    assert isinstance(own, Forecast)
    assert {answer.detail for answer in compared} == {"the model registry does not answer"}
    assert len(mlflow.requests) <= 2, "one request for each of the two models, however many ask"


def test_the_history_of_a_model_is_missing_and_holds_up_no_check_of_a_token(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_service, "REQUEST_TIMEOUT_S", 0.2)
    replicas = LocalReplicaClient(settings, {"btc_usdt_1h": _wanted("btc_usdt", 1)})
    service = ForecastService(settings, replicas, Accounts(Database("postgresql://a@127.0.0.1:9/b")), GatewayMetrics())

    async def ask() -> list[object]:
        _one_default_thread()
        await replicas.call("btc_usdt_1h", "model")
        series = Series(Pair.parse("btc_usdt"), Interval.H1)
        cards = [asyncio.create_task(service.model_card(series)) for _ in range(3)]
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.to_thread(time.monotonic)
            return [(card.version, card.newest) for card in await asyncio.gather(*cards)]

    assert asyncio.run(ask()) == [(1, None)] * 3


def test_a_client_for_requests_does_not_ask_again_at_once(
    settings: Settings, mlflow: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "REQUEST_TIMEOUT_S", 0.2)
    for _ in range(3):
        with Registry.for_requests(settings) as registry, pytest.raises(RegistryError, match="cannot be reached"):
            registry.versions("btc_usdt_1h")
    assert len(mlflow.requests) == 1
