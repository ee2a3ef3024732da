"""The HTTP API of 2022, called as its Streamlit page called it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pandas as pd
import pytest

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from make_us_rich.documents import ReplicaError
from serve_app.api.app import make_app
from tests.support.local_api import LocalApi
from tests.support.local_replica_client import LocalReplicaClient
from tests.support.waiting import wait_without_fault_until

pytestmark = pytest.mark.timeout(180)

# The columns of the frame that the page of 2022 built from `data`; those that are not stored stay empty.
COLUMNS = ["timestamp", "open", "high", "low", "close", "volume", "close_time"]
NOT_STORED = ["quote_av", "trades", "tb_base_av", "tb_quote_av", "ignore"]


def test_predict_answers_five_days_of_candles_and_a_price(service: LocalApi) -> None:
    def candles() -> int:
        return len(_predict(service, "btc", "usdt")["data"]["close"])

    # the replica begins with a snapshot of 30 candles
    wait_without_fault_until(lambda: candles() == 5 * 24, 60, "the exchange's candles are not fetched")
    answer = _predict(service, "btc", "usdt")

    frame = pd.DataFrame(data=answer["data"], columns=[*COLUMNS, *NOT_STORED])
    times = pd.to_datetime(frame["timestamp"])
    closes = pd.to_numeric(frame["close"], downcast="float")
    assert len(frame) == 5 * 24
    assert set(times.diff().dropna()) == {pd.Timedelta(hours=1)}
    assert all(isinstance(value, str) for value in answer["data"]["close"].values())
    assert closes.iloc[-1] == pytest.approx(answer["last_close"])
    assert answer["data"]["close_time"]["119"] + 1 == answer["as_of_ms"]
    assert times.iloc[-1] + pd.Timedelta(hours=1) == pd.Timestamp(answer["as_of_ms"], unit="ms")
    assert answer["prediction"] == answer["quantiles"]["q50"]
    assert (pd.to_numeric(frame["high"]) >= pd.to_numeric(frame["low"])).all()


@pytest.mark.parametrize(("interval", "rows"), [("1h", 120), ("15m", 480), ("4h", 30), ("1d", 5)])
def test_predict_asks_for_five_days_of_the_first_interval(interval: str, rows: int) -> None:
    settings = Settings(market="simulated", intervals=(interval, "1h"))
    asked: list[tuple[object, ...]] = []

    class NoForecast:
        """A replica that notes what it is asked and has no answer."""

        async def applications(self) -> frozenset[str]:
            return frozenset({f"btc_usdt_{interval}"})

        async def call(self, name: str, method: str, *arguments: object) -> ReplicaError:
            asked.append((name, method, *arguments))
            return ReplicaError(kind="not-ready", detail="for a test")

        def is_scaled_to_zero(self, name: str) -> bool:
            return False

    app = make_app(settings, NoForecast(), Accounts(Database(settings.database_url.get_secret_value())))
    app.state.tokens = AnyToken()
    app.state.service.check_quota = _passes

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            return await client.put("/predict?pair=btc_usdt&token=mur_any")

    assert asyncio.run(ask()).status_code == 503
    assert (f"btc_usdt_{interval}", "candles", rows) in asked


class AnyToken:
    async def authenticate(self, _: str) -> TokenOwner:
        return TokenOwner(user_id=1, token_id=1, roles=frozenset(), monthly_calls=10)


async def _passes(_: TokenOwner) -> None:
    return None


def test_the_models_are_listed_as_currency_and_compare(service: LocalApi) -> None:
    answer = httpx.get(f"{service.url}/check_models_number", timeout=30).raise_for_status().json()

    assert answer["message"] == "Number of running models: 2"
    for model in answer["models"]:
        currency, compare = model.split("_")
        assert _predict(service, currency, compare)["pair"] == model


def test_the_root_leads_to_the_documentation(service: LocalApi) -> None:
    page = httpx.get(service.url, follow_redirects=True, timeout=30)

    assert page.url.path == "/docs"
    assert page.status_code == 200
    assert "/openapi.json" in page.text


def test_without_a_model_the_message_warns() -> None:
    settings = Settings(market="simulated")
    accounts = Accounts(Database(settings.database_url.get_secret_value()))  # no query, so no connection
    app = make_app(settings, LocalReplicaClient(settings, {}), accounts)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            return await client.get("/check_models_number")

    assert asyncio.run(ask()).json() == {
        "message": "Warning: No models are running.",
        "models": [],
        "number_of_running_models": 0,
    }


def _predict(service: LocalApi, currency: str, compare: str) -> dict[str, Any]:
    query = {"currency": currency, "compare": compare, "token": service.admin_token}
    answer = httpx.put(f"{service.url}/predict", params=query, timeout=30)
    document: dict[str, Any] = answer.raise_for_status().json()
    return document
