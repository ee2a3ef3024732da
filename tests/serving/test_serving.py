"""Forecasts and models from the first deployment on: Ray Serve behind HAProxy, with MLflow and Postgres."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest

from make_us_rich.client import Client
from make_us_rich.core.errors import RegistryError, ServingError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import forecasts
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZONS, QUANTILE_NAMES, CandleColumns, Quantiles
from make_us_rich.forecasting.live_baselines import newest_forecast
from make_us_rich.market.candles import from_columns
from make_us_rich.pipeline.deployment import apply
from tests.support.accounts import transaction
from tests.support.fixed_response import NOT_FOUND_PAGE, fixed_response_server
from tests.support.serving_servers import ServingServers, replicas
from tests.support.tiny_model import LOG_RETURNS, tiny_model
from tests.support.waiting import wait_without_fault_until

pytestmark = pytest.mark.timeout(300)

WIDER = tuple(2 * value for value in LOG_RETURNS)
ALL_EQUAL = (0.0,) * 7


def test_a_starting_service_answers_503_until_it_is_ready(serving: ServingServers) -> None:
    print(serving.first_answers.counts)
    serving.first_answers.check()
    assert serving.first_answers.statuses >= {200, 503}


def test_a_forecast_has_the_documented_fields(api: httpx.Client) -> None:
    forecast = _newest_forecast(api, "eth_usdt")
    quantiles = forecast.pop("quantiles")
    horizons = forecast.pop("horizons")
    model = forecast.pop("model")
    assert list(quantiles) == list(QUANTILE_NAMES)
    expected = [forecast["last_close"] * math.exp(value) for value in LOG_RETURNS]
    assert list(quantiles.values()) == pytest.approx(expected, rel=1e-5)
    assert forecast.pop("flags") == {
        "stale": False,
        "simulated": True,
        "expired": False,
        "foundation": False,
        "bridged": False,
    }
    assert model.pop("age_hours") < 1
    assert model.pop("as_of_ms") <= time.time() * 1000
    assert model == {
        "name": "eth_usdt_1h",
        "version": 1,
        "architecture": "tiny",
        "skill_vs_naive": 0.07,
        "skill_margin": 0.01,
        "coverage_80": 0.8,
        "shipped": False,
        "adapted_ms": None,
    }
    as_of_ms = forecast.pop("as_of_ms")
    assert [item["horizon"] for item in horizons] == list(range(1, HORIZONS + 1))
    assert [item["target_close_ms"] for item in horizons] == [as_of_ms + h * HOUR_MS for h in range(1, HORIZONS + 1)]
    assert horizons[0]["quantiles"] == quantiles
    assert horizons[3]["quantiles"]["q90"] == pytest.approx(forecast["last_close"] * math.exp(2 * LOG_RETURNS[5]))
    assert forecast.pop("last_close") > 0
    assert forecast == {
        "pair": "eth_usdt",
        "interval": "1h",
        "market": "simulated",
        "target_open_ms": as_of_ms,
        "target_close_ms": as_of_ms + HOUR_MS,
    }


def test_a_forecast_is_recorded_once_with_all_its_horizons(serving: ServingServers, api: httpx.Client) -> None:
    served, *_ = [api.get("/v1/forecasts/eth_usdt").json() for _ in range(3)]
    with transaction(serving.database_url) as cursor:
        cursor.execute(
            "SELECT model_version, q50, horizon_quantiles FROM forecasts WHERE pair = 'eth_usdt'"
            " AND target_open_ms = %s",
            (served["target_open_ms"],),
        )
        ((version, median, recorded),) = cursor.fetchall()
    assert (version, median) == (1, served["quantiles"]["q50"])
    shown = [list(item["quantiles"].values()) for item in served["horizons"]]
    assert len(recorded) == HORIZONS
    assert np.array(recorded) == pytest.approx(np.array(shown), rel=1e-6)


def test_history_joins_past_forecasts_with_the_actual_closes(serving: ServingServers, api: httpx.Client) -> None:
    candles = api.get("/v1/candles/eth_usdt", params={"limit": 5}).json()
    open_ms, closes = candles["open_time_ms"], candles["close"]
    factors = np.array([0.9, 0.95, 0.99, 1.0, 1.01, 1.05, 1.1])
    levels = [Quantiles.of(closes[0] * factors**spread) for spread in range(1, 5)]
    levels[2] = Quantiles.of(10 * closes[0] * factors)  # the close three candles ahead is missed
    with Database(serving.database_url) as database:
        record = partial(
            forecasts.record,
            database,
            market="simulated",
            pair=Pair("eth", "usdt"),
            interval=Interval.H1,
            version=1,
            last_close=closes[0],
        )
        record(levels, as_of_ms=open_ms[1], made_at=datetime.fromtimestamp(open_ms[1] / 1000, UTC))
        made_at = datetime.fromtimestamp(open_ms[2] / 1000, UTC)
        record(levels[:1], as_of_ms=open_ms[2], made_at=made_at)  # by a model of one horizon

    def history(horizon: int) -> list[dict[str, object]]:
        answer = api.get("/v1/forecasts/eth_usdt/history", params={"horizon": horizon})
        return list(answer.raise_for_status().json()["forecasts"])

    # the forecast of the deployment comes before them when its candle has closed meanwhile
    *_, newest, first = history(1)
    assert (newest["target_open_ms"], first["target_open_ms"]) == (open_ms[2], open_ms[1])
    assert (first["horizon"], first["close"], first["inside_80"]) == (1, closes[1], True)
    assert api.get("/v1/forecasts/eth_usdt/history").json()["forecasts"][-2:] == [newest, first]
    (third,) = history(3)
    assert (third["horizon"], third["target_open_ms"], third["target_close_ms"]) == (3, open_ms[3], open_ms[4])
    assert (third["close"], third["inside_80"], third["last_close"]) == (closes[3], False, closes[0])
    (fourth,) = history(4)
    assert (fourth["close"], fourth["inside_80"]) == (closes[4], True)
    assert fourth["quantiles"] == pytest.approx(dict(levels[3]), rel=1e-6)
    assert history(5) == [], "no model forecast so far ahead"
    with Client(serving.settings.api_url, serving.admin_token) as client:
        assert [item.target_open_ms for item in client.history("eth_usdt", 10, horizon=3)] == [open_ms[3]]


def test_a_pair_without_any_model_is_answered_503(api: httpx.Client) -> None:
    answer = api.get("/v1/forecasts/chz_usdt")
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert answer.json()["status"] == 503
    assert answer.json()["detail"]


def test_a_new_champion_is_swapped_in_without_a_failed_call(serving: ServingServers, api: httpx.Client) -> None:
    replica = replicas(serving, "btc_usdt_1h")
    version = serving.promote("btc_usdt", tiny_model("btc_usdt", log_returns=WIDER))
    statuses: Counter[int] = Counter()
    stop = threading.Event()

    def call() -> None:
        with httpx.Client(base_url=serving.settings.api_url, headers=api.headers) as client:
            while not stop.is_set():
                statuses[client.get("/v1/forecasts/btc_usdt").status_code] += 1

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    applied = apply(serving.settings)
    time.sleep(1)
    stop.set()
    for caller in callers:
        caller.join()
    assert applied.applications["btc_usdt_1h"] == version
    assert api.get("/v1/models/btc_usdt").json()["version"] == version
    assert set(statuses) == {200}
    assert replicas(serving, "btc_usdt_1h") == replica


def test_other_models_are_compared_with_the_champion(api: httpx.Client) -> None:
    names = ("champion", "previous", "naive", "ewma")
    champion, previous, naive, ewma = (_newest_forecast(api, "btc_usdt", model=name) for name in names)
    assert (champion["model"]["version"], previous["model"]["version"]) == (2, 1)
    assert previous["quantiles"]["q95"] < champion["quantiles"]["q95"]
    assert naive["model"]["name"] == "naive"
    assert list(naive["quantiles"].values()) == sorted(naive["quantiles"].values())
    assert {each["as_of_ms"] for each in (previous, naive, ewma)} == {champion["as_of_ms"]}
    assert (ewma["model"]["name"], ewma["model"]["skill_vs_naive"]) == ("ewma", None)
    candles = from_columns(CandleColumns(**api.get("/v1/candles/btc_usdt?limit=1000").raise_for_status().json()))
    expected = ewma["last_close"] * np.exp(newest_forecast("ewma", candles, HOUR_MS, range(1, HORIZONS + 1)))
    assert [list(item["quantiles"].values()) for item in ewma["horizons"]] == pytest.approx(expected, rel=1e-9)
    missing = api.get("/v1/forecasts/btc_usdt?model=foundation")
    assert (missing.status_code, missing.json()["field"]) == (404, "model")
    wrong = api.get("/v1/forecasts/btc_usdt?model=best")
    assert (wrong.status_code, wrong.json()["field"]) == (422, "model")


def test_the_model_card_has_the_models_history(api: httpx.Client) -> None:
    card = api.get("/v1/models/btc_usdt").raise_for_status().json()
    assert (card["version"], card["previous"]["version"], card["foundation"]) == (2, 1, False)
    assert [model["version"] for model in card["newest"]] == [2, 1]
    assert {model["promotion"] for model in (card, card["previous"], *card["newest"])} == {"promoted: for a test"}


def test_a_champion_with_an_impossible_forecast_is_refused_and_an_alert_is_posted(
    serving: ServingServers, api: httpx.Client
) -> None:
    before = api.get("/v1/models/eth_usdt").json()["version"]
    refused = serving.promote("eth_usdt", tiny_model("eth_usdt", log_returns=ALL_EQUAL))
    with pytest.raises(ServingError, match=r"eth_usdt_1h refuses version .* do not increase"):
        apply(serving.settings)
    apply(serving.settings, wait_for=["btc_usdt_1h"])  # whose caller is not concerned
    assert api.get("/v1/forecasts/eth_usdt").json()["model"]["version"] == before
    (message,) = wait_without_fault_until(lambda: _alerts(serving, "eth_usdt_1h"), 90, "no alert is posted")
    assert message["title"] == f"eth_usdt_1h: version {refused} is refused"
    assert "do not increase" in message["description"]
    assert f"Version {before} of eth_usdt_1h keeps serving." in message["description"]
    serving.promote("eth_usdt", tiny_model("eth_usdt"))
    apply(serving.settings)
    assert api.get("/readyz").raise_for_status().json()["pairs"]["eth_usdt_1h"]["refused"] is None


def test_a_champion_of_the_first_contract_forecasts_the_next_close_alone(
    serving: ServingServers, api: httpx.Client
) -> None:
    version = serving.promote("eth_usdt", tiny_model("eth_usdt", horizons=0))
    apply(serving.settings)
    wait_without_fault_until(
        lambda: api.get("/v1/forecasts/eth_usdt").json()["model"]["version"] == version,
        90,
        "the older model does not serve",
    )
    forecast = api.get("/v1/forecasts/eth_usdt").json()
    (only,) = forecast["horizons"]
    assert (only["horizon"], only["quantiles"], only["skill_vs_naive"]) == (1, forecast["quantiles"], 0.07)
    refused = api.get("/v1/forecasts/eth_usdt?horizons=4")
    assert (refused.status_code, refused.json()["field"]) == (422, "horizons")
    assert refused.json()["detail"].endswith(f"the one by version {version} of eth_usdt_1h has 1")
    serving.promote("eth_usdt", tiny_model("eth_usdt"))
    apply(serving.settings)
    wait_without_fault_until(
        lambda: api.get("/v1/forecasts/eth_usdt?horizons=4").status_code == 200,
        90,
        "the model with horizons does not serve",
    )


def test_a_pair_without_a_champion_is_forecast_by_the_foundation_model(
    serving: ServingServers, api: httpx.Client
) -> None:
    names = ("gateway", "btc_usdt_1h", "eth_usdt_1h")
    before = [replicas(serving, name) for name in names]
    serving.promote("foundation", tiny_model("foundation", log_returns=WIDER))
    assert apply(serving.settings).by_foundation == ("chz_usdt_1h",)
    forecast = api.get("/v1/forecasts/chz_usdt").raise_for_status().json()
    assert forecast["model"]["name"] == "foundation_1h"
    assert forecast["flags"]["foundation"] is True
    card = api.get("/v1/models/chz_usdt").json()
    assert (card["foundation"], card["previous"], card["newest"]) == (True, None, [])
    last_close = api.get("/v1/candles/chz_usdt?limit=1").json()["close"][-1]
    assert forecast["quantiles"]["q95"] == pytest.approx(last_close * math.exp(WIDER[-1]), rel=1e-5)
    models = api.get("/check_models_number").json()["models"]
    assert models == ["btc_usdt", "chz_usdt", "eth_usdt"]
    assert [replicas(serving, name) for name in names] == before


def test_the_pairs_first_own_champion_replaces_the_foundation_model_in_place(
    serving: ServingServers, api: httpx.Client
) -> None:
    before = replicas(serving, "chz_usdt_1h")
    serving.promote("chz_usdt", tiny_model("chz_usdt"))
    assert apply(serving.settings).by_foundation == ()
    forecast = api.get("/v1/forecasts/chz_usdt").raise_for_status().json()
    assert forecast["model"]["name"] == "chz_usdt_1h"
    assert forecast["flags"]["foundation"] is False
    assert replicas(serving, "chz_usdt_1h") == before
    with transaction(serving.database_url) as cursor:
        cursor.execute(
            "UPDATE forecasts SET target_open_ms = target_open_ms - %s, made_at = made_at - interval '1 hour'"
            " WHERE pair = 'chz_usdt'",
            (HOUR_MS,),
        )
    past = api.get("/v1/forecasts/chz_usdt/history").json()["forecasts"]
    assert [(each["model_version"], each["foundation"]) for each in past] == [(1, True)], (
        "by the model that forecast it first"
    )


def test_the_service_deploys_the_champions_of_this_moment_when_it_is_told_to(
    serving: ServingServers, api: httpx.Client
) -> None:
    version = serving.promote("btc_usdt", tiny_model("btc_usdt"))
    accepted = api.put("/update_models")
    assert (accepted.status_code, accepted.headers["Location"]) == (202, "/readyz"), accepted.text
    assert accepted.json()["applications"]["btc_usdt_1h"] == version
    with Client(serving.settings.api_url, serving.admin_token) as client:
        client.update_models(wait_s=60)
        assert client.forecast("btc_usdt").model.version == version


def test_an_error_page_instead_of_the_registry_removes_no_pair(serving: ServingServers, api: httpx.Client) -> None:
    before = replicas(serving, "btc_usdt_1h")
    with fixed_response_server(404, NOT_FOUND_PAGE) as proxy, pytest.raises(RegistryError, match="404"):
        apply(serving.settings.model_copy(update={"mlflow_url": proxy}))
    assert "btc_usdt_1h" in api.get("/readyz").json()["pairs"]
    assert replicas(serving, "btc_usdt_1h") == before


def test_pooled_pairs_are_served_like_the_others(serving: ServingServers, api: httpx.Client) -> None:
    before = replicas(serving, "btc_usdt_1h")
    for pair in ("eth_usdt", "chz_usdt"):
        pairs_table.put(Database(serving.database_url), pair, plan="pooled")
    apply(serving.settings)
    answer = api.get("/v1/forecasts").raise_for_status().json()
    assert [forecast["pair"] for forecast in answer["forecasts"]] == ["btc_usdt", "chz_usdt", "eth_usdt"]
    assert len(replicas(serving, "pool")) == 1
    assert replicas(serving, "btc_usdt_1h") == before

    version = serving.promote("chz_usdt", tiny_model("chz_usdt", log_returns=WIDER))
    apply(serving.settings)
    assert api.get("/v1/models/chz_usdt").json()["version"] == version


def test_a_parked_pair_is_not_served(serving: ServingServers, api: httpx.Client) -> None:
    pairs_table.park(Database(serving.database_url), "chz_usdt", "the exchange halted it")
    apply(serving.settings)
    wait_without_fault_until(
        lambda: api.get("/v1/forecasts/chz_usdt").status_code == 404, 90, "the parked pair is still served"
    )


def _newest_forecast(api: httpx.Client, pair: str, **query: str) -> dict[str, Any]:
    """Return the forecast as of the last close, for which a replica takes some seconds after a candle's close."""

    def forecast() -> dict[str, Any] | None:
        found: dict[str, Any] = api.get(f"/v1/forecasts/{pair}", params=query).raise_for_status().json()
        return found if found["as_of_ms"] == Interval.H1.last_close_ms(time.time_ns() // 1_000_000) else None

    newest = wait_without_fault_until(forecast, 90, f"{pair} is not forecast from the last close on")
    assert newest is not None
    return newest


def _alerts(serving: ServingServers, name: str) -> list[dict[str, Any]]:
    messages = httpx.get(f"{serving.discord_url}/_control/messages").json()
    return [embed for message in messages for embed in message["embeds"] if embed["title"].startswith(name)]
