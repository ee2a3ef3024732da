"""Several candle intervals in one installation, over HTTP, by the client and on the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from typer.testing import CliRunner

from make_us_rich.cli import app
from make_us_rich.client import Client, ServiceRefused
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.settings import get_settings
from tests.support.folders import traversable_folder
from tests.support.local_api import LocalApi, local_api

pytestmark = pytest.mark.timeout(180)

PAIRS = ("btc_usdt", "eth_usdt")
FOUR_HOURS_MS = 4 * HOUR_MS


@pytest.fixture(scope="module")
def service() -> Iterator[LocalApi]:
    with traversable_folder() as folder, local_api(folder, PAIRS, intervals=(Interval.H1, Interval.H4)) as api:
        yield api


@pytest.fixture(scope="module")
def http(service: LocalApi) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {service.admin_token}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
        yield client


def test_the_pairs_are_listed_with_each_interval(http: httpx.Client) -> None:
    def listed(path: str) -> list[tuple[str, str]]:
        return [(item["pair"], item["interval"]) for item in http.get(path).raise_for_status().json()["pairs"]]

    assert listed("/v1/pairs") == [(pair, interval) for pair in PAIRS for interval in ("1h", "4h")]
    assert listed("/v1/pairs?interval=4h") == [(pair, "4h") for pair in PAIRS]


def test_a_forecast_of_an_interval_is_of_its_candles(http: httpx.Client) -> None:
    now_ms = time.time_ns() // 1_000_000
    forecast = http.get("/v1/forecasts/btc_usdt?interval=4h").raise_for_status().json()

    assert forecast["interval"] == "4h"
    assert forecast["model"]["name"] == "btc_usdt_4h"
    assert forecast["as_of_ms"] == now_ms // FOUR_HOURS_MS * FOUR_HOURS_MS
    assert forecast["target_close_ms"] == forecast["as_of_ms"] + FOUR_HOURS_MS
    closes = [item["target_close_ms"] for item in forecast["horizons"]]
    assert closes == [forecast["as_of_ms"] + FOUR_HOURS_MS * horizon for horizon in range(1, 25)]


def test_without_an_interval_the_first_one_is_meant(http: httpx.Client) -> None:
    for path in ("/v1/forecasts/btc_usdt", "/v1/forecasts/btc_usdt/history", "/v1/candles/btc_usdt"):
        assert http.get(path).raise_for_status().json()["interval"] == "1h"
    assert http.get("/v1/models/btc_usdt").raise_for_status().json()["name"] == "btc_usdt_1h"
    assert {item["interval"] for item in http.get("/v1/forecasts").raise_for_status().json()["forecasts"]} == {"1h"}
    assert http.put("/predict?pair=btc_usdt").raise_for_status().json()["interval"] == "1h"


def test_every_endpoint_of_a_pair_takes_an_interval(http: httpx.Client) -> None:
    four = http.get("/v1/candles/btc_usdt?interval=4h&limit=50").raise_for_status().json()
    assert four["interval"] == "4h"
    assert four["open_time_ms"][1] - four["open_time_ms"][0] == FOUR_HOURS_MS
    answers = (
        http.get("/v1/forecasts/btc_usdt/history?interval=4h"),
        http.get("/v1/forecasts/btc_usdt/probability?above=1&interval=4h"),
        http.post("/v1/forecasts/btc_usdt?interval=4h", json={"candles": four}),
    )
    assert {answer.raise_for_status().json()["interval"] for answer in answers} == {"4h"}
    many = http.get("/v1/forecasts?pairs=btc_usdt,eth_usdt&interval=4h").raise_for_status().json()["forecasts"]
    assert [item["model"]["name"] for item in many] == ["btc_usdt_4h", "eth_usdt_4h"]


def test_candles_of_another_interval_are_refused(http: httpx.Client) -> None:
    hourly = http.get("/v1/candles/btc_usdt?limit=50").raise_for_status().json()
    answer = http.post("/v1/forecasts/btc_usdt?interval=4h", json={"candles": hourly})
    assert (answer.status_code, answer.json()["field"]) == (422, "candles.interval")
    assert "not of 4h" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/pairs",
        "/v1/forecasts",
        "/v1/forecasts/btc_usdt",
        "/v1/forecasts/btc_usdt/history",
        "/v1/forecasts/btc_usdt/probability",
        "/v1/candles/btc_usdt",
        "/v1/models/btc_usdt",
    ],
)
@pytest.mark.parametrize("interval", ["1d", "7m", ""])
def test_an_interval_that_is_not_forecast_here_is_refused_by_name(http: httpx.Client, path: str, interval: str) -> None:
    answer = http.get(path, params={"interval": interval} | ({"above": 1} if "prob" in path else {}))
    assert (answer.status_code, answer.json()["field"]) == (422, "interval")
    assert "use 1h, 4h" in answer.json()["detail"]


def test_readiness_names_every_series(http: httpx.Client) -> None:
    ready = http.get("/readyz").raise_for_status().json()
    assert ready["ready"] is True
    assert set(ready["pairs"]) == {f"{pair}_{interval}" for pair in PAIRS for interval in ("1h", "4h")}


def test_the_client_asks_for_an_interval(service: LocalApi) -> None:
    with Client(service.url, service.admin_token) as api:
        assert api.pairs() == list(PAIRS)
        assert api.pairs("4h") == list(PAIRS)
        assert api.forecast("btc_usdt", interval="4h").interval == "4h"
        assert api.probability("btc_usdt", above=1, interval="4h").interval == "4h"
        assert {item.interval for item in api.forecasts(interval="4h")[0]} == {"4h"}
        times = api.candles("btc_usdt", 5, interval="4h").open_time_ms
        assert times[1] - times[0] == FOUR_HOURS_MS
        assert api.history("btc_usdt", 5, interval="4h") == []
        with pytest.raises(ServiceRefused, match="use 1h, 4h"):
            api.forecast("btc_usdt", interval="1d")


def test_the_command_line_asks_for_an_interval(service: LocalApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUR_DATABASE_URL", "postgresql://nobody:nothing@127.0.0.1:9/none")
    monkeypatch.setenv("MUR_API_URL", service.url)
    monkeypatch.setenv("MUR_INTERVALS", "1h,4h")
    get_settings.cache_clear()
    token = ["--token", service.admin_token]
    shown = CliRunner().invoke(app, ["forecast", "--interval", "4h", "--json", *token])
    refused = CliRunner().invoke(app, ["forecast", "--interval", "1d", *token])
    get_settings.cache_clear()
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("_usdt_4h") == len(PAIRS)
    assert refused.exit_code == 1
    assert "use 1h, 4h" in refused.output + str(refused.exception)
