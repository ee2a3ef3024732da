"""When the gateway calls a replica, and when it answers from its cache."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import BITCOIN
from make_us_rich.core.settings import Settings
from make_us_rich.documents import HORIZONS, QUANTILE_NAMES, Document, Flags, Forecast, PairState, Quantiles
from make_us_rich.registry.client import ModelVersion
from serve_app.gateway import forecast_service
from serve_app.gateway.forecast_service import CachedForecast, ForecastCache
from serve_app.metrics import GatewayMetrics
from serve_app.problems import Problem, unavailable
from tests.support.forecasts import make_forecast


class OneReplica:
    """The replica of btc_usdt_1h; it counts its calls."""

    def __init__(self, target_close_ms: int) -> None:
        self.is_stopped = self.is_dead = False
        self.calls = 0
        self._document = Forecast(
            pair=BITCOIN,
            interval="1h",
            market="simulated",
            as_of_ms=0,
            last_close=100.0,
            target_open_ms=0,
            target_close_ms=target_close_ms,
            quantiles=Quantiles(**dict.fromkeys(QUANTILE_NAMES, 100.0)),
            horizons=(),
            model=ModelVersion("btc_usdt_1h", 1, "run-1", created_ms=0, tags={}).describe(now_ms=0),
            flags=Flags(stale=False, simulated=True, expired=False, foundation=False),
        )

    async def applications(self) -> frozenset[str]:
        return frozenset({"btc_usdt_1h"})

    async def call(self, name: str, method: str, *arguments: object) -> Document:
        self.calls += 1
        if self.is_dead:
            raise unavailable("no-answer", "killed")
        return self._document

    def is_scaled_to_zero(self, name: str) -> bool:
        return self.is_stopped

    async def states(self, method: str) -> dict[str, PairState]:
        return {}


def calls_of_a_later_request(replica: OneReplica, **later: bool) -> int:
    """Return how often a second request calls the replica; `later` changes the replica before it."""

    async def calls() -> int:
        cache = ForecastCache(replica, GatewayMetrics())
        await cache.get("btc_usdt_1h", "champion")
        for name, value in later.items():
            setattr(replica, name, value)
        before = replica.calls
        await cache.get("btc_usdt_1h", "champion")
        return replica.calls - before

    return asyncio.run(calls())


@pytest.fixture
def valid() -> OneReplica:
    return OneReplica(target_close_ms=int(time.time() * 1000) + HOUR_MS)


@pytest.fixture
def expired() -> OneReplica:
    return OneReplica(target_close_ms=int(time.time() * 1000) - 1)


def test_a_request_for_all_pairs_starts_no_stopped_replica(valid: OneReplica) -> None:
    async def all_pairs() -> CachedForecast:
        return await ForecastCache(valid, GatewayMetrics()).get("btc_usdt_1h", "champion", wake=False)

    assert asyncio.run(all_pairs()).document.as_of_ms == 0
    valid.is_stopped = True
    with pytest.raises(Problem, match="asleep"):
        asyncio.run(all_pairs())
    assert valid.calls == 1


def test_a_fresh_forecast_comes_from_the_cache(valid: OneReplica) -> None:
    assert calls_of_a_later_request(valid) == 0


class TestAfterTheTtl:
    @pytest.fixture(autouse=True)
    def _no_ttl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forecast_service, "_TTL_S", 0.0)

    def test_the_replica_is_called(self, valid: OneReplica) -> None:
        assert calls_of_a_later_request(valid) == 1

    def test_a_stopped_replica_is_not_started_while_the_forecast_is_valid(self, valid: OneReplica) -> None:
        assert calls_of_a_later_request(valid, is_stopped=True) == 0

    def test_a_stopped_replica_is_started_when_the_candle_has_closed(self, expired: OneReplica) -> None:
        assert calls_of_a_later_request(expired, is_stopped=True) == 1

    def test_the_cached_forecast_stands_in_for_a_dead_replica(self, valid: OneReplica) -> None:
        assert calls_of_a_later_request(valid, is_dead=True) == 1


def test_each_list_of_horizons_has_a_body_and_an_etag_of_its_own() -> None:
    now_ms = int(time.time() * 1000)
    whole = CachedForecast.of(make_forecast("btc_usdt", as_of_ms=now_ms).document(Settings(), now_ms=now_ms))
    part = whole.only((1, 8))
    assert [item["horizon"] for item in json.loads(part.body)["horizons"]] == [1, 8]
    assert len({whole.etag, part.etag, whole.only((1,)).etag, whole.only((18,)).etag}) == 4
    assert whole.only((1, 8)) is part, "serialized once"
    assert whole.only(tuple(range(1, HORIZONS + 1))) is whole
    for horizon in range(1, HORIZONS + 1):
        whole.only((horizon,))
    assert whole.only((1, 8)) is not part, "a caller who varies the list cannot fill the memory"
