"""Serving on real servers: Ray Serve behind HAProxy, MLflow, Postgres and the replay exchange."""

from __future__ import annotations

import math
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
from make_us_rich.forecasting.live_baselines import ewma_forecast
from make_us_rich.market.candles import from_columns
from make_us_rich.operations.serve_deploy import apply
from tests.support.accounts import transaction
from tests.support.documentation import code_blocks
from tests.support.fixed_response import NOT_FOUND_PAGE, fixed_response_server
from tests.support.folders import traversable_folder
from tests.support.polling import polling
from tests.support.serving_servers import ServingServers, serving_servers
from tests.support.tiny_model import LOG_RETURNS, tiny_model
from tests.support.waiting import wait_without_fault_until

pytestmark = pytest.mark.timeout(300)

WIDER = tuple(2 * value for value in LOG_RETURNS)
ALL_EQUAL = (0.0,) * 7


@pytest.fixture(scope="module")
def serving() -> Iterator[ServingServers]:
    with (
        traversable_folder() as folder,
        serving_servers(folder, {"MUR_PAIRS": "btc_usdt,eth_usdt,chz_usdt"}) as servers,
    ):
        for pair in ("btc_usdt", "eth_usdt"):
            servers.promote(pair, tiny_model(pair))
        with polling(f"{servers.settings.api_url}/v1/pairs", every_s=0.05) as first_answers:
            apply(servers.settings)
        servers.first_answers.counts.update(first_answers.counts)
        yield servers


@pytest.fixture
def api(serving: ServingServers) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {serving.admin_token}"}
    with httpx.Client(base_url=serving.settings.api_url, headers=headers, timeout=30) as client:
        yield client


def test_a_starting_service_answers_503_until_it_is_ready(serving: ServingServers) -> None:
    print(serving.first_answers.counts)
    serving.first_answers.check()
    assert serving.first_answers.statuses >= {200, 503}


def test_a_forecast_has_the_documented_fields(api: httpx.Client) -> None:
    forecast = api.get("/v1/forecasts/eth_usdt").raise_for_status().json()
    quantiles = forecast.pop("quantiles")
    horizons = forecast.pop("horizons")
    model = forecast.pop("model")
    assert list(quantiles) == list(QUANTILE_NAMES)
    expected = [forecast["last_close"] * math.exp(value) for value in LOG_RETURNS]
    assert list(quantiles.values()) == pytest.approx(expected, rel=1e-5)
    assert forecast.pop("flags") == {"stale": False, "simulated": True, "expired": False, "foundation": False}
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
    }
    as_of_ms = forecast.pop("as_of_ms")
    assert [item["horizon"] for item in horizons] == list(range(1, HORIZONS + 1))
    assert [item["target_close_ms"] for item in horizons] == [as_of_ms + h * HOUR_MS for h in range(1, HORIZONS + 1)]
    assert horizons[0]["quantiles"] == quantiles
    assert horizons[3]["quantiles"]["q90"] == pytest.approx(forecast["last_close"] * math.exp(2 * LOG_RETURNS[5]))
    assert 0 <= time.time() * 1000 - as_of_ms < HOUR_MS
    assert forecast.pop("last_close") > 0
    assert forecast == {
        "pair": "eth_usdt",
        "interval": "1h",
        "market": "simulated",
        "target_open_ms": as_of_ms,
        "target_close_ms": as_of_ms + HOUR_MS,
    }


def test_a_forecast_is_recorded_once_with_all_its_horizons(serving: ServingServers, api: httpx.Client) -> None:
    answers = [api.get("/v1/forecasts/eth_usdt").json() for _ in range(3)]
    with transaction(serving.settings.database_url.get_secret_value()) as cursor:
        cursor.execute(
            "SELECT target_open_ms, model_version, q50, horizon_quantiles FROM forecasts WHERE pair = 'eth_usdt'"
        )
        ((target_open_ms, version, median, recorded),) = cursor.fetchall()
    served = answers[0]
    assert (target_open_ms, version, median) == (served["target_open_ms"], 1, served["quantiles"]["q50"])
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

    newest, first = history(1)
    assert (newest["target_open_ms"], first["target_open_ms"]) == (open_ms[2], open_ms[1])
    assert (first["horizon"], first["close"], first["inside_80"]) == (1, closes[1], True)
    assert api.get("/v1/forecasts/eth_usdt/history").json()["forecasts"] == [newest, first]
    (third,) = history(3)
    assert (third["horizon"], third["target_open_ms"], third["target_close_ms"]) == (3, open_ms[3], open_ms[4])
    assert (third["close"], third["inside_80"], third["last_close"]) == (closes[3], False, closes[0])
    (fourth,) = history(4)
    assert (fourth["close"], fourth["inside_80"]) == (closes[4], True)
    assert fourth["quantiles"] == pytest.approx(dict(levels[3]), rel=1e-6)
    assert history(5) == [], "no model forecast so far ahead"
    with Client(serving.settings.api_url, serving.admin_token) as client:
        assert [item.target_open_ms for item in client.history("eth_usdt", 10, horizon=3)] == [open_ms[3]]


def test_predict_of_version_1_still_works(serving: ServingServers) -> None:
    query = {"currency": "btc", "compare": "usdt", "token": serving.admin_token}
    answer = httpx.put(f"{serving.settings.api_url}/predict", params=query).raise_for_status().json()
    assert answer["prediction"] == answer["quantiles"]["q50"]


@pytest.mark.parametrize(
    ("method", "path", "status", "field"),
    [
        ("GET", "/v1/forecasts/BTCUSDT", 422, "pair"),
        ("GET", "/v1/forecasts/doge_usdt", 404, "pair"),
        ("GET", "/v1/forecasts/chz_usdt", 503, None),
        ("GET", "/v1/forecasts?pairs=btc_usdt,nonsense", 422, "pair"),
        ("GET", "/v1/candles/btc_usdt?limit=0", 422, "limit"),
        ("GET", "/v1/candles/btc_usdt?limit=many", 422, "limit"),
        ("PUT", "/predict", 422, "pair"),
        ("GET", "/nothing", 404, None),
        ("DELETE", "/v1/pairs", 405, None),
    ],
)
def test_a_wrong_request_is_answered_with_a_problem_document(
    api: httpx.Client, method: str, path: str, status: int, field: str | None
) -> None:
    answer = api.request(method, path)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem.get("field")) == (status, status, field)
    assert problem["detail"]


def test_calls_without_a_valid_token_are_refused(serving: ServingServers) -> None:
    with httpx.Client(base_url=serving.settings.api_url) as nobody:
        for headers in ({}, {"Authorization": "Bearer mur_wrong"}, {"Authorization": "Basic abc"}):
            answer = nobody.get("/v1/forecasts/btc_usdt", headers=headers)
            assert answer.status_code == 401
            assert "WWW-Authenticate" in answer.headers
            assert answer.json()["field"] == "token"


def test_admin_endpoints_need_an_admins_token(serving: ServingServers, api: httpx.Client) -> None:
    member = {"Authorization": f"Bearer {serving.member_token}"}
    assert api.put("/update_date", headers=member).status_code == 403
    assert set(api.put("/update_date").raise_for_status().json()["as_of_ms"]) == {"btc_usdt_1h", "eth_usdt_1h"}


def test_the_markets_candles_sent_by_a_caller_give_the_same_forecast(api: httpx.Client) -> None:
    candles = api.get("/v1/candles/eth_usdt", params={"limit": 100}).raise_for_status().json()
    answer = api.post("/v1/forecasts/eth_usdt", json={"candles": candles}).raise_for_status().json()
    assert answer["quantiles"] == api.get("/v1/forecasts/eth_usdt").json()["quantiles"]


def test_an_unchanged_forecast_is_free(api: httpx.Client) -> None:
    used = api.get("/v1/usage").json()["used"]
    first = api.get("/v1/forecasts/btc_usdt")
    again = api.get("/v1/forecasts/btc_usdt", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert api.get("/v1/usage").json()["used"] == used + 1


def test_the_quota_is_exact_at_64_clients(serving: ServingServers) -> None:
    limit, callers = 150, 64
    user = serving.accounts.users.create("hurried", "a password for tests")
    _limit_plan(serving, "hurried", limit)
    token = serving.accounts.tokens.create(user.user_id, "tests")

    def call(_: int) -> httpx.Response:
        return client.get("/v1/forecasts/btc_usdt")

    with (
        httpx.Client(
            base_url=serving.settings.api_url, headers={"Authorization": f"Bearer {token}"}, timeout=60
        ) as client,
        ThreadPoolExecutor(callers) as pool,
    ):
        answers = list(pool.map(call, range(limit + 100)))
        refused = client.get("/v1/forecasts/btc_usdt")
    assert Counter(answer.status_code for answer in answers) == {200: limit, 429: 100}
    assert refused.headers["RateLimit-Limit"] == str(limit)
    assert int(refused.headers["Retry-After"]) > 0
    assert serving.accounts.quota.usage(user.user_id).used == limit

    member = {"Authorization": f"Bearer {token}"}
    past = httpx.get(f"{serving.settings.api_url}/v1/forecasts/btc_usdt/history?limit=1", headers=member)
    now_ms = time.time() * 1000
    open_now = [each for each in past.json()["forecasts"] if each["target_close_ms"] > now_ms]
    assert open_now == [], "history shows no forecast of the open candle, which costs a call"


def test_a_new_champion_is_swapped_in_without_a_failed_call(serving: ServingServers, api: httpx.Client) -> None:
    replica = _replicas(serving, "btc_usdt_1h")
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
    assert _replicas(serving, "btc_usdt_1h") == replica


def test_other_models_are_compared_with_the_champion(api: httpx.Client) -> None:
    def forecast(model: str) -> dict[str, Any]:
        answer = api.get("/v1/forecasts/btc_usdt", params={"model": model})
        return dict(answer.raise_for_status().json())

    # in the seconds after a candle's close the models are not yet at the same one
    while forecast("champion")["as_of_ms"] != Interval.H1.last_close_ms(time.time_ns() // 1_000_000):
        time.sleep(0.5)
    champion, previous, naive, ewma = (forecast(model) for model in ("champion", "previous", "naive", "ewma"))
    assert (champion["model"]["version"], previous["model"]["version"]) == (2, 1)
    assert previous["quantiles"]["q95"] < champion["quantiles"]["q95"]
    assert naive["model"]["name"] == "naive"
    assert list(naive["quantiles"].values()) == sorted(naive["quantiles"].values())
    assert {each["as_of_ms"] for each in (previous, naive, ewma)} == {champion["as_of_ms"]}
    assert (ewma["model"]["name"], ewma["model"]["skill_vs_naive"]) == ("ewma", None)
    candles = from_columns(CandleColumns(**api.get("/v1/candles/btc_usdt?limit=1000").raise_for_status().json()))
    expected = ewma["last_close"] * np.exp(ewma_forecast(candles, HOUR_MS, range(1, HORIZONS + 1)))
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
    assert api.get("/v1/forecasts/eth_usdt").json()["model"]["version"] == before
    wait_without_fault_until(lambda: len(_alerts(serving)) == 1, 90, "no alert is posted")
    (message,) = _alerts(serving)
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
    before = [_replicas(serving, name) for name in names]
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
    assert [_replicas(serving, name) for name in names] == before


def test_the_pairs_first_own_champion_replaces_the_foundation_model_in_place(
    serving: ServingServers, api: httpx.Client
) -> None:
    before = _replicas(serving, "chz_usdt_1h")
    serving.promote("chz_usdt", tiny_model("chz_usdt"))
    assert apply(serving.settings).by_foundation == ()
    forecast = api.get("/v1/forecasts/chz_usdt").raise_for_status().json()
    assert forecast["model"]["name"] == "chz_usdt_1h"
    assert forecast["flags"]["foundation"] is False
    assert _replicas(serving, "chz_usdt_1h") == before
    with transaction(serving.database_url) as cursor:
        cursor.execute("UPDATE forecasts SET target_open_ms = target_open_ms - %s WHERE pair = 'chz_usdt'", (HOUR_MS,))
    past = api.get("/v1/forecasts/chz_usdt/history").json()["forecasts"]
    assert [(each["model_version"], each["foundation"]) for each in past] == [(1, False)], (
        "by the model that forecast it last"
    )


def test_update_models_returns_at_once_while_a_replica_hangs(serving: ServingServers, api: httpx.Client) -> None:
    ((_, replica),) = _replicas(serving, "btc_usdt_1h")
    version = serving.promote("btc_usdt", tiny_model("btc_usdt"))
    os.kill(replica, signal.SIGSTOP)
    try:
        began = time.monotonic()
        accepted = api.put("/update_models")
        print(f"{accepted.status_code} after {time.monotonic() - began:.1f} s")
        assert accepted.status_code == 202, accepted.text
        assert accepted.headers["Location"] == "/readyz"
        assert accepted.json()["applications"]["btc_usdt_1h"] == version
        state = api.get("/readyz", timeout=60).json()["pairs"]["btc_usdt_1h"]
        assert "does not answer" in state["reason"]
    finally:
        os.kill(replica, signal.SIGCONT)
    with Client(serving.settings.api_url, serving.admin_token) as client:
        client.update_models(wait_s=60)
        assert client.forecast("btc_usdt").model.version == version


def test_an_error_page_instead_of_the_registry_removes_no_pair(serving: ServingServers, api: httpx.Client) -> None:
    before = _replicas(serving, "btc_usdt_1h")
    with fixed_response_server(404, NOT_FOUND_PAGE) as proxy, pytest.raises(RegistryError, match="404"):
        apply(serving.settings.model_copy(update={"mlflow_url": proxy}))
    assert "btc_usdt_1h" in api.get("/readyz").json()["pairs"]
    assert _replicas(serving, "btc_usdt_1h") == before


def test_an_idle_pair_scales_to_zero_and_starts_with_the_next_call(serving: ServingServers, api: httpx.Client) -> None:
    settings = serving.settings.model_copy(update={"idle_replica_s": 1})
    serving.promote("chz_usdt", tiny_model("chz_usdt"))
    pairs_table.put(Database(serving.database_url), "chz_usdt", min_replicas=0)
    apply(settings)
    api.get("/v1/forecasts/chz_usdt").raise_for_status()
    wait_without_fault_until(lambda: _is_asleep(api, "chz_usdt_1h"), 90, "chz_usdt does not fall asleep")
    wait_without_fault_until(lambda: not _replicas(serving, "chz_usdt_1h"), 90, "the replica does not stop")
    apply(settings)
    assert api.get("/v1/forecasts/chz_usdt").status_code == 200, "from the gateway's cache: the replica is not started"
    assert _replicas(serving, "chz_usdt_1h") == []
    ((_, gateway),) = _replicas(serving, "gateway")
    os.kill(gateway, signal.SIGKILL)  # its successor has no cached forecast
    wait_without_fault_until(
        lambda: gateway not in [process for _, process in _replicas(serving, "gateway")],
        90,
        "the gateway is not killed",
    )
    wait_without_fault_until(lambda: _is_asleep(api, "chz_usdt_1h"), 90, "chz_usdt does not fall asleep")
    missing = {item["pair"]: item["detail"] for item in api.get("/v1/forecasts").json()["missing"]}
    assert "asleep" in missing["chz_usdt"]
    time.sleep(2)
    assert _replicas(serving, "chz_usdt_1h") == [], "a request for all pairs starts no replica"
    started = time.monotonic()
    assert api.get("/v1/candles/chz_usdt").status_code == 200
    print(f"started in {time.monotonic() - started:.1f} s")
    assert len(_replicas(serving, "chz_usdt_1h")) == 1
    pairs_table.put(Database(serving.database_url), "chz_usdt", min_replicas=1)


def test_pooled_pairs_are_served_like_the_others(serving: ServingServers, api: httpx.Client) -> None:
    before = _replicas(serving, "btc_usdt_1h")
    for pair in ("eth_usdt", "chz_usdt"):
        pairs_table.put(Database(serving.database_url), pair, plan="pooled")
    apply(serving.settings)
    answer = api.get("/v1/forecasts").raise_for_status().json()
    assert [forecast["pair"] for forecast in answer["forecasts"]] == ["btc_usdt", "chz_usdt", "eth_usdt"]
    assert len(_replicas(serving, "pool")) == 1
    assert _replicas(serving, "btc_usdt_1h") == before

    version = serving.promote("chz_usdt", tiny_model("chz_usdt", log_returns=WIDER))
    apply(serving.settings)
    assert api.get("/v1/models/chz_usdt").json()["version"] == version


def test_a_parked_pair_is_not_served(serving: ServingServers, api: httpx.Client) -> None:
    pairs_table.park(Database(serving.database_url), "chz_usdt", "the exchange halted it")
    apply(serving.settings)
    wait_without_fault_until(
        lambda: api.get("/v1/forecasts/chz_usdt").status_code == 404, 90, "the parked pair is still served"
    )


def _alerts(serving: ServingServers) -> list[dict[str, Any]]:
    messages = httpx.get(f"{serving.discord_url}/_control/messages").json()
    return [embed for message in messages for embed in message["embeds"]]


def _is_asleep(api: httpx.Client, name: str) -> bool:
    try:
        pairs = api.get("/readyz").json().get("pairs", {})
    except httpx.TransportError:  # cut off, when a test has just killed the gateway
        return False
    return name in pairs and bool(pairs[name]["asleep"])


def _limit_plan(serving: ServingServers, user: str, calls: int) -> None:
    with transaction(serving.settings.database_url.get_secret_value()) as cursor:
        cursor.execute("INSERT INTO plans (name, monthly_calls) VALUES (%s, %s) RETURNING plan_id", (user, calls))
        cursor.execute("UPDATE users SET plan_id = %s WHERE name = %s", (cursor.fetchone()[0], user))


def _replicas(serving: ServingServers, application: str) -> list[tuple[str, int]]:
    """Return replica ids and process ids; the process id of a starting replica is 0."""
    headers = {"Authorization": f"Bearer {serving.settings.ray_token.get_secret_value()}"}
    answer = httpx.get(f"{serving.settings.ray_url}/api/serve/applications/", headers=headers)
    deployments = answer.json()["applications"][application]["deployments"].values()
    return sorted(
        (each["replica_id"], each.get("pid", 0)) for deployment in deployments for each in deployment["replicas"]
    )


def test_the_readmes_example_runs(serving: ServingServers, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = code_blocks("README.md", "python")
    for placeholder, value in (("http://127.0.0.1:28000", serving.settings.api_url), ("mur_...", serving.admin_token)):
        assert example.count(placeholder) == 1
        example = example.replace(placeholder, value)
    exec(compile(example, "README.md", "exec"), {})
    forecast, model, *_ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"btc_usdt closes between [\d,.]+ and [\d,.]+ with a probability of 80 %", forecast)
    assert re.fullmatch(r"median [\d,.]+, model btc_usdt_1h version \d+", model)
