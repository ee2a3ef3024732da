"""When a replica is asked, and when the gateway's own memory will do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from make_us_rich.core.interval import HOUR_MS
from serve_app.api.problems import Problem, unavailable
from serve_app.gateway import forecast_cache
from serve_app.gateway.forecast_cache import ForecastAnswer, ForecastCache
from serve_app.metrics import GatewayMetrics


class OneReplica:
    """Of btc_usdt_1h; tells how often it was asked."""

    def __init__(self, target_close_ms: float) -> None:
        self.sleeps = self.dead = False
        self.asked = 0
        self._document = {
            "as_of_ms": 0,
            "target_close_ms": target_close_ms,
            "model": {"name": "btc_usdt_1h", "version": 1, "as_of_ms": 0},
            "flags": {"stale": False},
        }

    async def names(self) -> frozenset[str]:
        return frozenset({"btc_usdt_1h"})

    async def ask(self, name: str, method: str, *arguments: object) -> dict[str, Any]:
        self.asked += 1
        if self.dead:
            raise unavailable("no-answer", "killed")
        return self._document

    def asleep(self, name: str) -> bool:
        return self.sleeps

    async def states(self, method: str) -> dict[str, dict[str, Any]]:
        return {}


def asked_again(replica: OneReplica, **later: bool) -> int:
    """How often the replica is asked by a call that comes when the gateway's answer is no longer fresh."""

    async def calls() -> int:
        cache = ForecastCache(replica, GatewayMetrics())
        await cache.get("btc_usdt_1h", "champion")
        for name, value in later.items():
            setattr(replica, name, value)
        before = replica.asked
        await cache.get("btc_usdt_1h", "champion")
        return replica.asked - before

    return asyncio.run(calls())


@pytest.fixture
def holding() -> OneReplica:
    return OneReplica(target_close_ms=time.time() * 1000 + HOUR_MS)


@pytest.fixture
def closed() -> OneReplica:
    return OneReplica(target_close_ms=time.time() * 1000 - 1)


def test_a_call_for_all_pairs_wakes_none(holding: OneReplica) -> None:
    async def all_pairs() -> ForecastAnswer:
        return await ForecastCache(holding, GatewayMetrics()).get("btc_usdt_1h", "champion", wake=False)

    assert asyncio.run(all_pairs()).document["as_of_ms"] == 0
    holding.sleeps = True
    with pytest.raises(Problem, match="asleep"):
        asyncio.run(all_pairs())
    assert holding.asked == 1


def test_a_fresh_answer_is_given_from_memory(holding: OneReplica) -> None:
    assert asked_again(holding) == 0


class TestWhenTheAnswerIsNoLongerFresh:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forecast_cache, "_LIVE_S", 0.0)

    def test_the_replica_is_asked(self, holding: OneReplica) -> None:
        assert asked_again(holding) == 1

    def test_a_replica_that_sleeps_is_let_sleep_while_the_forecast_holds(self, holding: OneReplica) -> None:
        assert asked_again(holding, sleeps=True) == 0

    def test_a_replica_that_sleeps_is_woken_when_the_candle_has_closed(self, closed: OneReplica) -> None:
        assert asked_again(closed, sleeps=True) == 1

    def test_the_known_forecast_stands_in_for_a_dead_replica(self, holding: OneReplica) -> None:
        assert asked_again(holding, dead=True) == 1
