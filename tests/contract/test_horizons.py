"""The horizons of a forecast over HTTP, and the probabilities that follow from them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from make_us_rich.cli import app
from make_us_rich.cli.shared import time_cell
from make_us_rich.client import Client, ServiceRefused
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.settings import get_settings
from make_us_rich.documents import HORIZONS
from tests.contract.test_bad_input import candles, detail_of
from tests.support.folders import traversable_folder
from tests.support.local_api import LocalApi, local_api

pytestmark = pytest.mark.timeout(180)

OLD = "eth_usdt"
"""Served by a model of the first contract, which forecasts the next close alone."""

ALL = list(range(1, HORIZONS + 1))


@pytest.fixture(scope="module")
def service() -> Iterator[LocalApi]:
    with traversable_folder() as folder, local_api(folder, ("btc_usdt", OLD), first_contract={OLD}) as api:
        yield api


@pytest.fixture
def member(service: LocalApi) -> Iterator[Member]:
    made = Member(service)
    with made.client, made.http:
        yield made


class Member:
    """A member with calls to spend."""

    def __init__(self, service: LocalApi) -> None:
        self._accounts = service.accounts
        self._user_id = service.accounts.users.create(f"m{time.monotonic_ns()}", "a password for tests").user_id
        token = service.accounts.tokens.create(self._user_id, "tests")
        self.client = Client(service.url, token)
        self.http = httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    @property
    def used(self) -> int:
        return self._accounts.quota.usage(self._user_id).used

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=headers)

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return self.http.post(path, json=body)


def horizons_of(document: dict[str, Any]) -> list[int]:
    return [item["horizon"] for item in document["horizons"]]


def test_a_forecast_has_the_horizons_that_are_asked_for(member: Member) -> None:
    whole = member.get("/v1/forecasts/btc_usdt").raise_for_status()
    part = member.get("/v1/forecasts/btc_usdt?horizons=24,1,4,4").raise_for_status()
    assert horizons_of(whole.json()) == ALL
    assert horizons_of(part.json()) == [1, 4, 24]
    assert part.json()["horizons"] == [whole.json()["horizons"][index] for index in (0, 3, 23)]
    assert part.json()["quantiles"] == whole.json()["quantiles"]
    rises = [item["probability_up"] for item in whole.json()["horizons"]]
    assert all(0 < rise < 1 for rise in rises[:4]), "beyond, it was measured to say nothing"
    assert rises[4:] == [None] * 20
    assert member.get("/v1/forecasts/btc_usdt?horizons=all").content == whole.content
    assert member.used == 3, "however many horizons, a forecast is one call"


def test_an_etag_holds_for_its_own_horizons(member: Member) -> None:
    whole = member.get("/v1/forecasts/btc_usdt").headers["ETag"]
    part = member.get("/v1/forecasts/btc_usdt?horizons=8").headers["ETag"]
    used = member.used
    assert member.get("/v1/forecasts/btc_usdt?horizons=8", **{"If-None-Match": part}).status_code == 304
    assert member.used == used
    assert member.get("/v1/forecasts/btc_usdt?horizons=8", **{"If-None-Match": whole}).status_code == 200
    assert member.get("/v1/forecasts/btc_usdt", **{"If-None-Match": part}).status_code == 200


def test_many_pairs_have_the_next_close_unless_more_is_asked_for(member: Member) -> None:
    def ask(query: str) -> dict[str, list[int]]:
        answer = member.get(f"/v1/forecasts?pairs=btc_usdt,{OLD}{query}").raise_for_status().json()
        assert answer["missing"] == []
        return {item["pair"]: horizons_of(item) for item in answer["forecasts"]}

    assert ask("") == {"btc_usdt": [1], OLD: [1]}
    assert ask("&horizons=1,8,24") == {"btc_usdt": [1, 8, 24], OLD: [1]}
    assert ask("&horizons=all") == {"btc_usdt": ALL, OLD: [1]}
    assert member.used == 3


def test_of_many_pairs_those_are_missing_that_have_none_of_the_horizons(member: Member) -> None:
    answer = member.get("/v1/forecasts?horizons=8,24").raise_for_status().json()
    assert {item["pair"]: horizons_of(item) for item in answer["forecasts"]} == {"btc_usdt": [8, 24]}
    (missing,) = answer["missing"]
    assert missing["pair"] == OLD
    assert missing["detail"] == "no forecast 8, 24 candles ahead: the one by version 1 of eth_usdt_1h has 1"


def test_own_candles_are_forecast_at_the_horizons_that_are_asked_for(member: Member) -> None:
    body = {"candles": candles()}
    whole = member.post("/v1/forecasts/btc_usdt", body).raise_for_status().json()
    part = member.post("/v1/forecasts/btc_usdt?horizons=4", body).raise_for_status().json()
    assert horizons_of(whole) == ALL
    assert part["horizons"] == [whole["horizons"][3]]
    assert part["market"] == "own"


def test_a_model_of_the_first_contract_is_served_as_before(member: Member) -> None:
    forecast = member.get(f"/v1/forecasts/{OLD}").raise_for_status().json()
    (only,) = forecast["horizons"]
    assert only["quantiles"] == forecast["quantiles"]
    assert only["target_close_ms"] == forecast["target_close_ms"] == forecast["as_of_ms"] + HOUR_MS
    assert member.get(f"/v1/forecasts/{OLD}?horizons=1").json() == forecast
    rise = member.client.probability(OLD, above=forecast["last_close"])
    assert rise.probability == pytest.approx(only["probability_up"], abs=1e-6)
    used = member.used
    for answer in (
        member.get(f"/v1/forecasts/{OLD}?horizons=1,4"),
        member.post(f"/v1/forecasts/{OLD}?horizons=4", {"candles": candles(), "reference": candles()}),
    ):
        assert detail_of(answer, 422, "horizons") == (
            "no forecast 4 candles ahead: the one by version 1 of eth_usdt_1h has 1"
        )
    answer = member.get(f"/v1/forecasts/{OLD}/probability?above=1&horizon=4")
    assert "version 1 of eth_usdt_1h has 1" in detail_of(answer, 422, "horizon")
    assert member.used == used


def test_the_endpoint_of_2022_answers_without_horizons(service: LocalApi) -> None:
    query = {"pair": "btc_usdt", "token": service.admin_token}
    answer = httpx.put(f"{service.url}/predict", params=query, timeout=30).raise_for_status().json()
    assert "horizons" not in answer
    assert set(answer) >= {"prediction", "data", "quantiles", "model", "flags", "target_close_ms"}


@pytest.mark.parametrize(
    "asked", ["", "0", "25", "1,", "many", "1;4", "1e0", "1,-4", "9" * 400, "'; DROP TABLE users; --"]
)
@pytest.mark.parametrize("path", ["/v1/forecasts/btc_usdt", "/v1/forecasts", "own"])
def test_a_list_that_names_no_horizons(member: Member, path: str, asked: str) -> None:
    if path == "own":
        answer = member.post(f"/v1/forecasts/btc_usdt?{httpx.QueryParams(horizons=asked)}", {"candles": candles()})
    else:
        answer = member.get(f"{path}?{httpx.QueryParams(horizons=asked)}")
    assert "name candles ahead from 1 to 24, such as horizons=1,4,24" in detail_of(answer, 422, "horizons")
    assert member.used == 0


def test_a_probability_is_that_of_the_forecast_at_its_horizon(member: Member) -> None:
    forecast = member.client.forecast("btc_usdt")
    later, price = forecast.at(8), forecast.at(8).quantiles.q75
    answer = member.get(f"/v1/forecasts/btc_usdt/probability?above={price!r}&horizon=8").raise_for_status().json()
    assert answer == {
        "pair": "btc_usdt",
        "interval": "1h",
        "market": "simulated",
        "as_of_ms": forecast.as_of_ms,
        "last_close": forecast.last_close,
        "horizon": 8,
        "target_close_ms": later.target_close_ms,
        "above": price,
        "below": None,
        "between": None,
        "probability": 0.25,
        "model": {"name": "btc_usdt_1h", "version": 1},
        "flags": forecast.flags.model_dump(),
    }
    assert member.used == 2, "one call for the forecast, one for the probability"


def test_the_client_asks_for_horizons_and_probabilities(member: Member) -> None:
    api = member.client
    assert [item.horizon for item in api.forecast("btc_usdt", horizons=(8, 1)).horizons] == [1, 8]
    assert len(api.forecast("btc_usdt").horizons) == HORIZONS
    naive = api.forecast("btc_usdt", "naive", horizons=[24])
    assert [(item.horizon, item.skill_vs_naive) for item in naive.horizons] == [(24, 0.0)]
    found, missing = api.forecasts(horizons=(1, 8, 24))
    assert ([len(item.horizons) for item in found], missing) == ([3, 1], {})
    assert [len(item.horizons) for item in api.forecasts()[0]] == [1, 1]
    quantiles = found[0].at(24).quantiles
    assert api.probability("btc_usdt", below=quantiles.q10, horizon=24).probability == pytest.approx(0.1)
    answer = api.probability("btc_usdt", between=(quantiles.q25, quantiles.q90), horizon=24)
    assert answer.probability == pytest.approx(0.65)
    assert answer.between == (quantiles.q25, quantiles.q90)
    with pytest.raises(ServiceRefused, match="ask one question") as caught:
        api.probability("btc_usdt")
    assert (caught.value.status, caught.value.field) == (422, "above")


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("", "above", "ask one question, above=PRICE, below=PRICE or between=LOW,HIGH: none is given"),
        ("above=1&below=2", "below", "above and below are given"),
        ("above=1&between=1,2&below=3", "between", "above and below and between are given"),
        *((f"above={price}", "above", "above: Input should be") for price in ("0", "-1", "nan", "inf", "ten", "1e400")),
        *((f"below={price}", "below", "below: Input should be") for price in ("0", "-1", "NaN", "-inf", "", "1e13")),
        ("between=0,1", "between", "greater than 0"),
        ("between=1,nan", "between", "finite number"),
        ("between=1,inf", "between", "finite number"),
        ("between=one,2", "between", "valid number"),
        ("between=1", "between", "takes two prices: between=LOW,HIGH"),
        ("between=1,2,3", "between", "takes two prices"),
        ("between=", "between", "valid number"),
        ("between=2,1", "between", "the lower price first: 2.0 is not below 1.0"),
        ("between=2,2", "between", "the lower price first"),
        *(
            (f"above=1&horizon={value}", "horizon", "horizon: Input should be")
            for value in ("0", "25", "-1", "1.5", "x")
        ),
        ("above=1&horizons=1", "query", "it takes above, below, between, horizon"),
    ],
)
def test_a_question_that_has_no_answer(member: Member, query: str, field: str, says: str) -> None:
    assert says in detail_of(member.get(f"/v1/forecasts/btc_usdt/probability?{query}"), 422, field)
    assert member.used == 0


@pytest.fixture
def _settings(service: LocalApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MUR_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")  # or it looks for a stack here
    monkeypatch.setenv("MUR_API_URL", service.url)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.usefixtures("_settings")
def test_the_terminal_shows_the_horizon_that_is_asked_for(service: LocalApi) -> None:
    def mkrich(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["forecast", *arguments, "--token", service.admin_token], env={"COLUMNS": "200"})

    with Client(service.url, service.admin_token) as api:
        later = api.forecast("btc_usdt").at(24)
    shown = mkrich("btc_usdt", "--horizon", "24").stdout
    assert time_cell(later.target_close_ms) in shown
    assert f"{later.quantiles.q10:.6g} to {later.quantiles.q90:.6g}" in shown
    (document,) = json.loads(mkrich("btc_usdt", "--horizon", "24", "--json").stdout)
    assert horizons_of(document) == [24]
    (document,) = json.loads(mkrich("btc_usdt", "--json").stdout)
    assert horizons_of(document) == ALL
    assert mkrich("btc_usdt", "--horizon", "25").exit_code == 2
    with pytest.raises(ServiceRefused, match="version 1 of eth_usdt_1h has 1"):
        raise mkrich(OLD, "--horizon", "4").exception or AssertionError


def test_the_probability_of_a_pair_that_is_not_served(member: Member) -> None:
    detail_of(member.get("/v1/forecasts/doge_usdt/probability?above=1"), 404, "pair")
    detail_of(member.get("/v1/forecasts/DOGE/probability?above=1"), 422, "pair")
    assert member.used == 0


def test_the_dashboards_token_asks_for_no_probability(service: LocalApi) -> None:
    """Its pages compute probabilities from the forecasts that they have."""
    headers = {"Authorization": f"Bearer {service.dashboard_token}"}
    answer = httpx.get(f"{service.url}/v1/forecasts/btc_usdt/probability?above=1", headers=headers, timeout=30)
    detail_of(answer, 403, None)
