"""Answers that cost no call of the month are made once for all who ask at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import Document, Model, PairState
from serve_app import single_flight
from serve_app.api.app import make_app
from serve_app.single_flight import SingleFlightCache

NO_POSTGRES = "postgresql://nobody:nothing@127.0.0.1:9/none"
NO_REGISTRY = "http://127.0.0.1:9"
SERVING = Model(
    name="btc_usdt_1h",
    version=1,
    as_of_ms=0,
    architecture="lstm",
    age_hours=1.0,
    skill_vs_naive=None,
    skill_margin=None,
    coverage_80=None,
)


class CountedReplicas:
    """Serves btc_usdt_1h and counts the calls."""

    def __init__(self) -> None:
        self.states_calls = 0

    async def applications(self) -> frozenset[str]:
        return frozenset({"btc_usdt_1h"})

    async def call(self, name: str, method: str, *arguments: object) -> Document:
        return SERVING

    def is_scaled_to_zero(self, name: str) -> bool:
        return False

    async def states(self, method: str) -> dict[str, PairState]:
        self.states_calls += 1
        await asyncio.sleep(0.01)
        return {"btc_usdt_1h": PairState.scaled_to_zero()}


class AnyToken:
    async def authenticate(self, _: str) -> TokenOwner:
        return TokenOwner(user_id=1, token_id=1, roles=frozenset(), monthly_calls=10)


async def _passes(_: TokenOwner) -> dict[str, str]:
    return {}


def answers(replicas: CountedReplicas, *paths: str) -> list[httpx.Response]:
    """Return the answers to calls that are made at the same moment."""
    app = make_app(Settings(mlflow_url=NO_REGISTRY), replicas, Accounts(Database(NO_POSTGRES)))
    app.state.tokens = AnyToken()
    app.state.service.check_quota = _passes

    async def call() -> list[httpx.Response]:
        headers = {"Authorization": "Bearer mur_any"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://api", headers=headers
        ) as client:
            return await asyncio.gather(*map(client.get, paths))

    return asyncio.run(call())


def test_a_hundred_unknown_pairs_are_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = []
    monkeypatch.setattr(pairs_table, "active", lambda database: queries.append(database) or ())
    unknown = ",".join(f"a{number}_usdt" for number in range(100))

    (answer,) = answers(CountedReplicas(), f"/v1/forecasts?pairs={unknown}")

    assert len(answer.json()["missing"]) == 100
    assert len(queries) == 1


def test_strangers_who_ask_for_readiness_share_one_look_at_the_replicas() -> None:
    replicas = CountedReplicas()
    found = answers(replicas, *["/readyz"] * 50)

    assert {answer.status_code for answer in found} == {200}
    assert replicas.states_calls == 1


def test_calls_for_one_model_card_share_one_look_into_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_app.gateway import forecast_service

    looked: list[object] = []
    registry = forecast_service.Registry

    class CountedRegistry(registry):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: object, **options: object) -> None:
            looked.append(arguments)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(forecast_service, "Registry", CountedRegistry)
    found = answers(CountedReplicas(), *["/v1/models/btc_usdt"] * 20)

    assert {(answer.status_code, answer.json()["newest"]) for answer in found} == {(200, None)}
    assert len(looked) == 1


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]


def test_a_cached_value_expires_and_the_least_used_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, made = 100.0, []
    monkeypatch.setattr(single_flight.time, "monotonic", lambda: now_s)

    async def work() -> None:
        nonlocal now_s
        cache: SingleFlightCache[str, str] = SingleFlightCache(5.0, capacity=2)

        async def get(key: str) -> str:
            async def make() -> str:
                made.append(key)
                return key

            return await cache.get(key, make)

        for key in ("a", "a", "b", "a", "c", "a", "b"):
            assert await get(key) == key
        assert made == ["a", "b", "c", "b"]
        now_s += 5.1
        await get("b")
        assert made == ["a", "b", "c", "b", "b"]

    run(work)


def test_an_error_reaches_all_who_wait_and_is_not_cached() -> None:
    tries = []

    async def work() -> None:
        cache: SingleFlightCache[None, int] = SingleFlightCache(5.0)

        async def fail() -> int:
            tries.append(1)
            await asyncio.sleep(0)
            raise ValueError("away")

        found = await asyncio.gather(*(cache.get(None, fail) for _ in range(3)), return_exceptions=True)
        assert [str(each) for each in found] == ["away"] * 3
        with pytest.raises(ValueError, match="away"):
            await cache.get(None, fail)

    run(work)
    assert len(tries) == 2
