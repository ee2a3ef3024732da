"""Deployments at the same moment, and which series a deployment waits for.

Postgres is real; Ray Serve and the API answer as tests/serving/test_serving.py sees the real ones answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest

from make_us_rich.core.errors import ServingError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.locks import advisory_lock
from make_us_rich.database.pairs import TrackedPair
from make_us_rich.database.pool import Database
from make_us_rich.pipeline import deployment
from make_us_rich.pipeline.deployment import apply
from make_us_rich.registry.client import ModelVersion
from tests.support.accounts import transaction
from tests.support.app_threads import running_app
from tests.support.ray_stand_in import RayStandIn
from tests.support.servers import migrated_database

pytestmark = pytest.mark.timeout(120)

BTC, ETH = Pair("btc", "usdt"), Pair("eth", "usdt")
BTC_1H, BTC_4H, ETH_1H = Series(BTC, Interval.H1), Series(BTC, Interval.H4), Series(ETH, Interval.H1)


@dataclass
class Service(RayStandIn):
    """With the registry's champions, by series."""

    champions: dict[Series, ModelVersion] = field(default_factory=dict)

    def models_to_serve(self, _: Settings, pairs: Sequence[TrackedPair]) -> Mapping[Series, ModelVersion]:
        active = {item.pair for item in pairs}
        return {series: model for series, model in self.champions.items() if series.pair in active}


def _version(series: Series, version: int) -> ModelVersion:
    return ModelVersion(series.name, version, "run", 0, {})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with migrated_database() as server:
        yield server


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service(champions={series: _version(series, 1) for series in (BTC_1H, BTC_4H, ETH_1H)})
    monkeypatch.setattr(deployment, "models_to_serve", made.models_to_serve)
    return made


@pytest.fixture
def settings(url: str, service: Service) -> Iterator[Settings]:
    with running_app(service.app()) as address, Database(url) as database:
        for pair in (BTC, ETH):
            pairs_table.put(database, pair, plan="dedicated")
            pairs_table.unpark(database, pair)
        yield Settings(database_url=url, ray_url=address, api_url=address, intervals="1h,4h")


def test_the_older_of_two_deployments_does_not_land_last(
    url: str, service: Service, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has read pairs and champions when another caller parks a pair, moves a champion and deploys."""
    has_read, may_go_on = Event(), Event()

    def slow(settings: Settings, pairs: Sequence[TrackedPair]) -> Mapping[Series, ModelVersion]:
        found = service.models_to_serve(settings, pairs)
        if not has_read.is_set():
            has_read.set()
            assert may_go_on.wait(60)
        return found

    monkeypatch.setattr(deployment, "models_to_serve", slow)
    with ThreadPoolExecutor(2) as pool, Database(url) as database:
        first = pool.submit(apply, settings)
        assert has_read.wait(60)
        pairs_table.park(database, ETH, "halted")
        service.champions[BTC_1H] = _version(BTC_1H, 2)
        second = pool.submit(apply, settings)
        _wait_until_a_lock_is_contended(url, unless=second.done)
        may_go_on.set()
        first.result(60)
        second.result(60)

    assert len(service.configs) == 2
    assert set(service.served) == {"btc_usdt_1h", "btc_usdt_4h"}
    assert service.served["btc_usdt_1h"].version == 2


def test_a_deployment_gives_up_when_another_takes_too_long(url: str, service: Service, settings: Settings) -> None:
    late = ServingError("not this one")
    with (
        Database(url) as database,
        advisory_lock(database, "deploy", timeout_s=5, late=late),
        pytest.raises(ServingError, match=r"another deployment takes longer than 0\.1 s: try again"),
    ):
        apply(settings, timeout_s=0.1)
    assert service.configs == []


def test_a_caller_waits_for_its_own_series_alone(service: Service, settings: Settings) -> None:
    service.refused = {"btc_usdt_4h"}
    service.failed = {"eth_usdt_1h"}

    apply(settings, wait_for=["btc_usdt_1h"])

    with pytest.raises(ServingError, match=r"btc_usdt_4h refuses version 1"):
        apply(settings, wait_for=["btc_usdt_4h"])
    with pytest.raises(ServingError, match=r"Ray Serve could not deploy eth_usdt_1h"):
        apply(settings)


@pytest.mark.parametrize("version", [1, 3])
def test_a_caller_accepts_what_a_later_one_deployed(service: Service, settings: Settings, version: int) -> None:
    """A promotion or a rollback of the series lands while the caller waits for version 2."""
    service.champions[BTC_1H] = _version(BTC_1H, 2)
    service.stuck = {"btc_usdt_1h"}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(apply, settings, wait_for=["btc_usdt_1h"])
        _until(lambda: bool(service.configs))
        service.champions[BTC_1H] = _version(BTC_1H, version)
        apply(settings, wait=False)
        service.stuck = set()
        waiting.result(60)
    assert service.served["btc_usdt_1h"].version == version


def test_a_caller_does_not_wait_for_a_pair_that_is_parked_meanwhile(
    url: str, service: Service, settings: Settings
) -> None:
    service.stuck = {"eth_usdt_1h"}
    with ThreadPoolExecutor(1) as pool, Database(url) as database:
        waiting = pool.submit(apply, settings, wait_for=["eth_usdt_1h"])
        _until(lambda: bool(service.configs))
        pairs_table.park(database, ETH, "halted")
        apply(settings, wait=False)
        waiting.result(60)
    assert "eth_usdt_1h" not in service.served


def _until(is_so: Any) -> None:
    for _ in range(6000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def _wait_until_a_lock_is_contended(url: str, *, unless: Any) -> None:
    def is_contended() -> bool:
        assert not unless(), "nothing kept the second deployment from landing first"
        with transaction(url) as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
                " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
            )
            return bool(cursor.fetchone()[0])

    _until(is_contended)
