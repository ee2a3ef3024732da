"""/readyz on a real database: what was served before counts, and a new pair may take its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from make_us_rich.accounts import Accounts
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import forecasts
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import Document, PairState, Quantiles
from serve_app.api.app import make_app
from tests.support.gateway_parts import AnyToken
from tests.support.servers import migrated_database

BTC, ETH, NEW = (Pair(base, "usdt") for base in ("btc", "eth", "sol"))
READY = PairState.scaled_to_zero()
WARMING = PairState.unreachable("it has no candles yet")


class States:
    """Replicas that have these states, and no answer."""

    def __init__(self, states: dict[str, PairState]) -> None:
        self._states = states

    async def applications(self) -> frozenset[str]:
        return frozenset(self._states)

    async def call(self, name: str, method: str, *arguments: object) -> Document:
        raise AssertionError("no call was expected")

    def is_scaled_to_zero(self, name: str) -> bool:
        return False

    async def states(self, method: str) -> dict[str, PairState]:
        return self._states


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """Forecasts of btc_usdt were served an hour ago, of eth_usdt a month ago; sol_usdt is new."""
    now_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    quantiles = Quantiles.of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    with migrated_database() as url, Database(url) as database:
        pairs_table.seed(database, (BTC, ETH, NEW), ())
        for pair, age_ms in ((BTC, 0), (ETH, 30 * 24 * Interval.H1.ms)):
            forecasts.record(
                database,
                [quantiles],
                market="simulated",
                pair=pair,
                interval=Interval.H1,
                as_of_ms=now_ms - age_ms,
                version=1,
                last_close=4.0,
                made_at=None if age_ms == 0 else _at(now_ms - age_ms),
            )
        yield database


def _at(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000 + 1, UTC)


def ask(database: Database, states: dict[str, PairState], path: str = "/readyz") -> httpx.Response:
    app = make_app(Settings(market="simulated"), States(states), Accounts(database))
    app.state.tokens = AnyToken()

    async def call() -> httpx.Response:
        headers = {"Authorization": "Bearer mur_any"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
            return await client.get(path)

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ({"btc_usdt_1h": READY}, 200),
        ({"btc_usdt_1h": READY, "sol_usdt_1h": WARMING}, 200),  # a new pair
        ({"btc_usdt_1h": READY, "eth_usdt_1h": WARMING}, 200),  # one that nobody was served for a month
        ({"btc_usdt_1h": WARMING, "sol_usdt_1h": READY}, 503),
        ({"sol_usdt_1h": READY}, 503),  # btc_usdt is lost
        ({"sol_usdt_1h": WARMING}, 503),
        ({}, 503),
    ],
)
def test_ready_is_who_answers_for_every_pair_that_was_served(
    database: Database, states: dict[str, PairState], status: int
) -> None:
    answer = ask(database, states)

    assert answer.status_code == status, answer.text
    lost = "btc_usdt_1h" not in states
    assert ("it was served and is not loaded" in answer.text) is lost
    assert answer.json()["ready"] is (status == 200)


def test_a_lost_pair_is_not_explained_as_one_that_was_never_trained(database: Database) -> None:
    lost, new = (ask(database, {"eth_usdt_1h": READY}, f"/v1/forecasts/{pair}") for pair in (BTC, NEW))

    assert (lost.status_code, new.status_code) == (503, 503)
    assert "was served and is not loaded" in lost.json()["detail"]
    assert "was just added" in new.json()["detail"]


def test_a_parked_pair_is_not_lost(database: Database) -> None:
    pairs_table.park(database, BTC, "halted")
    try:
        assert ask(database, {"eth_usdt_1h": READY}).status_code == 200
    finally:
        pairs_table.unpark(database, BTC)


def test_without_postgres_every_pair_counts() -> None:
    away = Database("postgresql://nobody:nothing@127.0.0.1:9/none")

    assert ask(away, {"btc_usdt_1h": READY}).status_code == 200
    assert ask(away, {"btc_usdt_1h": READY, "sol_usdt_1h": WARMING}).status_code == 503
