"""A replica without registry, exchange and Postgres: no server runs at the settings' addresses."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Series
from make_us_rich.core.settings import Settings
from make_us_rich.documents import Document, Forecast, NamedVersion, PairState, ReplicaError
from make_us_rich.market import exchange
from make_us_rich.registry.client import ModelVersion
from serve_app.replica import compared_models
from serve_app.replica.forecast import ComputedForecast, ForecastSnapshot
from serve_app.replica.forecaster import Forecaster, Pool
from serve_app.replica.models import ModelCache
from serve_app.replica.updater import pause_s
from tests.support.forecasts import make_forecast

SERIES = Series(BITCOIN, Interval.H1)
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(exchange, "_MAX_ATTEMPTS", 1)  # or the exchange's client retries for seconds
    return Settings(
        cache_folder=str(tmp_path),
        exchange_url=NOWHERE,
        mlflow_url=NOWHERE,
        database_url="postgresql://nobody:nothing@127.0.0.1:9/none",
    )


def forecast_by(version: int, as_of_ms: int) -> ComputedForecast:
    return make_forecast("btc_usdt", as_of_ms=as_of_ms, version=version)


def save_snapshot(settings: Settings, kept: ComputedForecast) -> None:
    ForecastSnapshot(Path(settings.cache_folder), SERIES, settings.market).save(kept)


def answers(
    settings: Settings, *, version: int, name: str = "btc_usdt_1h"
) -> tuple[Forecast | ReplicaError, PairState]:
    async def ask() -> tuple[Forecast | ReplicaError, PairState]:
        forecaster = Forecaster(SERIES, settings, ModelCache(2))
        await forecaster.reconfigure({"name": name, "version": version, "run_id": f"run-{version}"})
        return await forecaster.forecast(), await forecaster.state()

    return asyncio.run(ask())


def test_a_replica_without_servers_serves_its_snapshot_as_stale(offline: Settings) -> None:
    yesterday_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000) - 24 * HOUR_MS
    save_snapshot(offline, forecast_by(3, yesterday_ms))
    forecast, state = answers(offline, version=3)
    assert forecast.flags.stale is True
    assert forecast.as_of_ms == yesterday_ms
    assert forecast.quantiles.q50 == pytest.approx(100.0)
    assert state.ready is True
    assert state.serves == NamedVersion(name="btc_usdt_1h", version=3)


def test_an_unreachable_new_champion_makes_the_old_ones_forecast_stale(offline: Settings) -> None:
    now_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    save_snapshot(offline, forecast_by(3, now_ms))
    assert answers(offline, version=3)[0].flags.stale is False
    forecast, state = answers(offline, version=4)
    assert forecast.model.version == 3
    assert forecast.flags.stale is True
    assert state.wanted == NamedVersion(name="btc_usdt_1h", version=4)
    assert "MLflow" in str(state.reason)


def test_a_replica_answers_while_it_swaps_to_another_model(offline: Settings) -> None:
    """Ray Serve sends no calls to a replica whose `reconfigure` has not returned."""
    save_snapshot(offline, forecast_by(3, Interval.H1.last_close_ms(time.time_ns() // 1_000_000)))
    name = SERIES.name

    async def swap(settings: Settings, silent_registry: socket.socket) -> Document:
        pool = Pool(settings)
        await pool.reconfigure({name: {"name": name, "version": 3, "run_id": "run-3"}})
        try:
            async with asyncio.timeout(2):
                await pool.reconfigure({name: {"name": name, "version": 4, "run_id": "run-4"}})
                while (await pool.call(name, "state")).wanted.version == 3:
                    await asyncio.sleep(0.01)
                return await pool.call(name, "forecast")
        finally:
            silent_registry.close()  # so that the thread that asks it ends

    with socket.create_server(("127.0.0.1", 0)) as silent_registry:
        url = f"http://127.0.0.1:{silent_registry.getsockname()[1]}"
        forecast = asyncio.run(swap(offline.model_copy(update={"mlflow_url": url}), silent_registry))
    assert forecast.model.version == 3


@pytest.mark.parametrize(("expiry_hours", "expired"), [(48, False), (20, True)])
def test_an_expired_model_serves_with_a_warning(offline: Settings, expiry_hours: int, expired: bool) -> None:
    settings = offline.model_copy(update={"model_expiry_hours": expiry_hours})
    save_snapshot(settings, forecast_by(3, time.time_ns() // 1_000_000 - 24 * HOUR_MS))
    assert answers(settings, version=3)[0].flags.expired is expired


def test_a_model_older_than_twice_its_expiry_stops_serving(offline: Settings) -> None:
    settings = offline.model_copy(update={"model_expiry_hours": 10})
    save_snapshot(settings, forecast_by(3, time.time_ns() // 1_000_000 - 24 * HOUR_MS))
    forecast, state = answers(settings, version=3)
    assert "has seen nothing for 24 hours" in forecast.detail
    assert (state.ready, state.reason) == (False, forecast.detail)


@pytest.mark.parametrize(("expiry_hours", "is_refused"), [(11, True), (13, False)])
def test_the_same_age_refuses_own_candles_and_compared_models(
    offline: Settings, monkeypatch: pytest.MonkeyPatch, expiry_hours: int, is_refused: bool
) -> None:
    settings = offline.model_copy(update={"model_expiry_hours": expiry_hours})
    old = forecast_by(3, time.time_ns() // 1_000_000 - 24 * HOUR_MS)
    save_snapshot(settings, old)

    class OneModel:
        """A registry that has the same old model under every alias."""

        def __init__(self, *_: object, **__: object) -> None: ...

        def __enter__(self) -> OneModel:
            return self

        def __exit__(self, *_: object) -> None: ...

        for_requests = classmethod(lambda cls, *_: cls())

        def find(self, name: str, alias: str) -> ModelVersion:
            return old.model.version

        def download(self, version: ModelVersion) -> bytes:
            return old.model.graph

    monkeypatch.setattr(compared_models, "Registry", OneModel)

    async def ask() -> list[Forecast | ReplicaError]:
        forecaster = Forecaster(SERIES, settings, ModelCache(2))
        await forecaster.reconfigure({"name": "btc_usdt_1h", "version": 3, "run_id": "run-3"})
        own = await forecaster.forecast_from(old.window.candles, None)
        return [own, *[await forecaster.forecast(model) for model in ("champion", "previous", "foundation")]]

    for answer in asyncio.run(ask()):
        assert isinstance(answer, ReplicaError) is is_refused
        assert not is_refused or "has seen nothing for 24 hours" in answer.detail


def test_a_forecast_by_the_foundation_model_has_its_flag(offline: Settings) -> None:
    now_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    save_snapshot(offline, make_forecast("btc_usdt", as_of_ms=now_ms, version=3, by="foundation"))
    forecast, state = answers(offline, version=3, name="foundation_1h")
    assert forecast.pair == "btc_usdt"
    assert forecast.model.name == "foundation_1h"
    assert forecast.flags.model_dump() | {"stale": False} == {
        "stale": False,
        "simulated": False,
        "expired": False,
        "foundation": True,
    }
    assert state.ready is True


@pytest.mark.parametrize(
    ("horizons", "tags", "skills"),
    [
        (0, {"skill_vs_naive": "0.07"}, [0.07]),
        (24, {"skill_vs_naive": "0.07", "horizon_skills": "[0.08, null]"}, [0.08, *[None] * 23]),
        (24, {}, [None] * 24),
    ],
)
def test_each_horizon_has_the_skill_that_was_measured_there(
    horizons: int, tags: dict[str, str], skills: list[float | None]
) -> None:
    computed = make_forecast("btc_usdt", as_of_ms=HOUR_MS, horizons=horizons, tags=tags)
    assert [item.skill_vs_naive for item in computed.horizons] == skills


@pytest.mark.parametrize(
    ("before_close_s", "failures", "pause"),
    [(1000, 0, 1001.5), (1000, 1, 2), (1000, 3, 8), (1000, 9, 60), (20, 9, 21.5), (3599, 9, 60), (20, 5000, 21.5)],
)
def test_a_new_candle_never_waits_for_the_retry_of_what_failed_before_its_close(
    before_close_s: int, failures: int, pause: float
) -> None:
    now_ms = 1000 * HOUR_MS - before_close_s * 1000
    assert pause_s(Interval.H1, now_ms, failures=failures, delay_s=1.5) == pytest.approx(pause)


def test_another_pairs_model_is_refused(offline: Settings) -> None:
    _, state = answers(offline, version=3, name="eth_usdt_1h")
    assert state.refused == "eth_usdt_1h is another pair's model"


def test_a_replica_without_a_snapshot_is_not_ready(offline: Settings) -> None:
    forecast, state = answers(offline, version=1)
    assert isinstance(forecast, ReplicaError)
    assert state.ready is False


def test_the_snapshot_of_another_market_is_not_used(offline: Settings) -> None:
    now_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    save_snapshot(offline.model_copy(update={"market": "simulated"}), forecast_by(3, now_ms))
    assert isinstance(answers(offline, version=3)[0], ReplicaError)


def test_a_damaged_snapshot_is_ignored(offline: Settings) -> None:
    now_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    save_snapshot(offline, forecast_by(3, now_ms))
    (kept,) = Path(offline.cache_folder).iterdir()
    kept.write_bytes(kept.read_bytes()[:500])
    assert isinstance(answers(offline, version=3)[0], ReplicaError)
