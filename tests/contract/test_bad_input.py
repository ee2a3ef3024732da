"""Wrong requests are answered with a 4xx that names the field, and are not counted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from tests.support.accounts import owner_of
from tests.support.local_api import LocalApi

SQL = "'; DROP TABLE users; --"
PROBLEM = "application/problem+json"
INVALID_TOKENS = ["", "Bearer", "Basic YTpi", "Bearer mur_garbage", f"Bearer {SQL}", f"Bearer {'x' * 4000}"]
LOOSE_NUMBERS = [
    "1_0",
    " 10",
    "10 ",
    "+10",
    "\u0661\u0660",
    "\uff11\uff10",
    "1\u00b2",
    "0x10",
    "10\n",
    "--1",
    "1" * 400,
]
INVALID_PRICES = [float("nan"), float("inf"), float("-inf"), "10.0", "ten", None, [], {}, SQL, 1e300]


@pytest.fixture
def api(service: LocalApi) -> Iterator[httpx.Client]:
    """Yield a client with a member's token; fail when one of its wrong requests was counted."""
    name = f"member {time.monotonic_ns()}"
    user = service.accounts.users.create(name, "a password for tests")
    token = service.accounts.tokens.create(user.user_id, "tests")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
        yield client
    assert service.accounts.quota.usage(user.user_id).used == 0


def detail_of(answer: httpx.Response, status: int, field: str | None) -> str:
    assert answer.headers["Content-Type"] == PROBLEM
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem.get("field")) == (status, status, field), problem
    return str(problem["detail"])


def candles(n: int = 100) -> dict[str, Any]:
    last_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    return {
        "open_time_ms": [last_ms - (n - row) * HOUR_MS for row in range(n)],
        "open": [10.0] * n,
        "high": [11.0] * n,
        "low": [9.0] * n,
        "close": [10.0] * n,
        "volume": [1.0] * n,
    }


def post(api: httpx.Client, sent: dict[str, Any]) -> httpx.Response:
    """Send candles as Python writes JSON, with NaN and infinities."""
    headers = {"Content-Type": "application/json"}
    return api.post("/v1/forecasts/btc_usdt", content=json.dumps({"candles": sent}), headers=headers)


@pytest.mark.parametrize("pair", ["BTCUSDT", "btc-usdt", "btc", "btc_usdt_eth", "btc_usdt%00", "b" * 5000, SQL])
@pytest.mark.parametrize("path", ["/v1/forecasts/{}", "/v1/candles/{}", "/v1/models/{}", "/v1/forecasts/{}/history"])
def test_a_malformed_pair(api: httpx.Client, path: str, pair: str) -> None:
    assert "base_quote in lower case" in detail_of(api.get(path.format(pair)), 422, "pair")


def test_the_error_for_an_unknown_pair_names_the_served_ones(api: httpx.Client) -> None:
    assert "served are: btc_usdt, eth_usdt" in detail_of(api.get("/v1/forecasts/nobody_usdt"), 404, "pair")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (
            "/v1/forecasts/btc_usdt?length=4h",
            "'length' is no parameter of this endpoint: it takes horizons, interval, model",
        ),
        ("/v1/usage?month=1", "it takes none"),
        (f"/v1/forecasts/btc_usdt?{SQL}=1", "is no parameter"),
    ],
)
def test_an_unknown_parameter_is_not_ignored(api: httpx.Client, path: str, says: str) -> None:
    assert says in detail_of(api.get(path), 422, "query")


def test_candles_of_another_interval_or_pair(api: httpx.Client) -> None:
    detail_of(post(api, candles() | {"interval": "4h"}), 422, "candles.interval")
    detail_of(post(api, candles() | {"pair": "eth_usdt"}), 422, "candles.pair")


def test_candles_four_hours_apart(api: httpx.Client) -> None:
    sent = candles()
    sent["open_time_ms"] = [sent["open_time_ms"][-1] - 4 * (99 - row) * HOUR_MS for row in range(100)]
    assert "row 1 does not open one interval" in detail_of(post(api, sent), 422, "candles.open_time_ms")


def test_the_error_for_too_few_candles_says_how_many_are_needed(api: httpx.Client) -> None:
    assert "the model needs 24" in detail_of(post(api, candles(1)), 422, "candles")


def test_1001_candles_are_too_many(api: httpx.Client) -> None:
    assert "at most 1000" in detail_of(post(api, candles(1001)), 422, "candles.open_time_ms")
    assert "at most 1500" in detail_of(post(api, candles(1501)), 422, "candles.open_time_ms")


def test_a_body_of_100_000_candles_is_too_large(api: httpx.Client) -> None:
    detail_of(post(api, candles(100_000)), 413, "body")


@pytest.mark.parametrize("value", INVALID_PRICES)
@pytest.mark.parametrize("column", ["close", "volume"])
def test_an_invalid_price(api: httpx.Client, column: str, value: Any) -> None:
    sent = candles()
    sent[column][7] = value
    assert detail_of(post(api, sent), 422, f"candles.{column}.7")


@pytest.mark.parametrize("value", [1.5, -1, "1700000000000", None, 10**30, SQL])
def test_an_invalid_time(api: httpx.Client, value: Any) -> None:
    sent = candles()
    sent["open_time_ms"][7] = value
    assert detail_of(post(api, sent), 422, "candles.open_time_ms.7")


def test_unordered_candles(api: httpx.Client) -> None:
    sent = candles()
    sent["open_time_ms"].reverse()
    assert "row 1 " in detail_of(post(api, sent), 422, "candles.open_time_ms")


def test_candles_off_the_grid(api: httpx.Client) -> None:
    sent = candles()
    sent["open_time_ms"] = [time_ms + 60_000 for time_ms in sent["open_time_ms"]]
    assert "row 0 does not open on the 1h grid" in detail_of(post(api, sent), 422, "candles.open_time_ms")


@pytest.mark.parametrize("column", ["open_time_ms", "high", "volume"])
def test_a_missing_or_short_column(api: httpx.Client, column: str) -> None:
    short, missing = candles(), candles()
    short[column].pop()
    del missing[column]
    detail_of(post(api, missing), 422, f"candles.{column}")
    detail_of(post(api, short), 422, "candles.open" if column == "open_time_ms" else f"candles.{column}")


@pytest.mark.parametrize(
    ("content", "content_type", "field"),
    [
        (b"open_time_ms,open\n1,2", "text/csv", "body"),
        (b"{}", "application/x-www-form-urlencoded", "body"),
        (b"{", "application/json", "body"),
        (b"\xff\xfe", "application/json", "body"),
        (b"[]", "application/json", "body"),
        (b"", "application/json", "body"),
        (b"{}", "application/json", "candles"),
        (b'{"candles": {}, "reference": null, "refrence": {}}', "application/json", "refrence"),
        (b'{"candles": 1, "candles": {}}', "application/json", "body"),
        (b'{"candles": {"close": [1], "close": [2]}}', "application/json", "body"),
        (b'{"candles": ' + b"[" * 100_000, "application/json", "body"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "application/json", "body"),
        (b'{"candles": ' + b"1" * 5000 + b"}", "application/json", "body"),
        ('{"candles": {}}'.encode("utf-16"), "application/json", "body"),
        (b'\xef\xbb\xbf{"candles": {}}', "application/json", "body"),
        (b'{"candles": {}}', "text/json-of-mine", "body"),
    ],
)
def test_an_invalid_body(api: httpx.Client, content: bytes, content_type: str, field: str) -> None:
    headers = {"Content-Type": content_type}
    detail_of(api.post("/v1/forecasts/btc_usdt", content=content, headers=headers), 422, field)


@pytest.mark.parametrize("path", ["/v1/pairs/", "/healthz/"])
def test_no_redirect_names_the_callers_host(service: LocalApi, path: str) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-Proto": "https"}
    answer = httpx.get(f"{service.url}{path}", headers=headers)
    assert answer.status_code == 404
    assert "evil.example" not in str(answer.headers)


@pytest.mark.parametrize("header", INVALID_TOKENS)
def test_an_invalid_token(service: LocalApi, header: str) -> None:
    answer = httpx.get(f"{service.url}/v1/usage", headers={"Authorization": header})
    detail_of(answer, 401, "token")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("scheme", ["bearer ", "BEARER  ", "Bearer   "])
def test_a_scheme_in_any_case_and_more_than_one_space(api: httpx.Client, scheme: str) -> None:
    token = api.headers["Authorization"].removeprefix("Bearer ")
    assert api.get("/v1/usage", headers={"Authorization": f"{scheme}{token}"}).status_code == 200


def test_a_revoked_token(service: LocalApi) -> None:
    user = service.accounts.users.create("leaver", "a password for tests")
    token = service.accounts.tokens.create(user.user_id, "tests")
    service.accounts.tokens.revoke(user.user_id, owner_of(service.accounts, token).token_id)
    detail_of(httpx.get(f"{service.url}/v1/usage", headers={"Authorization": f"Bearer {token}"}), 401, "token")


def test_only_predict_takes_the_token_in_the_query(service: LocalApi) -> None:
    query = {"token": service.admin_token}
    detail_of(httpx.get(f"{service.url}/v1/usage", params=query), 422, "token")
    predicted = httpx.put(f"{service.url}/predict", params=query | {"pair": "btc_usdt"})
    assert predicted.status_code == 200


@pytest.mark.parametrize("field", ["pair", "currency", "compare", "token"])
def test_sql_in_predicts_fields(service: LocalApi, field: str) -> None:
    query = {"currency": "btc", "compare": "usdt", "token": service.admin_token, field: SQL}
    answer = httpx.put(f"{service.url}/predict", params=query)
    detail_of(answer, *((401, "token") if field == "token" else (422, "pair")))


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "many", "1e3", "", SQL, *LOOSE_NUMBERS, "10.0", "007"])
@pytest.mark.parametrize("path", ["/v1/candles/btc_usdt", "/v1/forecasts/btc_usdt/history"])
def test_an_invalid_limit(api: httpx.Client, path: str, limit: str) -> None:
    detail_of(api.get(path, params={"limit": limit}), 422, "limit")


@pytest.mark.parametrize(
    ("horizon", "says"),
    [
        ("0", "greater than or equal to 1"),
        ("25", "less than or equal to 24"),
        ("-1", ""),
        ("4.5", ""),
        (SQL, ""),
        *((text, "Input should be a valid integer in digits") for text in LOOSE_NUMBERS),
    ],
)
def test_an_unknown_horizon_of_the_history(api: httpx.Client, horizon: str, says: str) -> None:
    answer = api.get("/v1/forecasts/btc_usdt/history", params={"horizon": horizon})
    assert says in detail_of(answer, 422, "horizon")


@pytest.mark.parametrize("price", [*LOOSE_NUMBERS, "nan", "inf", "Infinity", "1e", ".5", "5.", "0", "-1", "1e13"])
@pytest.mark.parametrize("query", [{"above": "{}"}, {"below": "{}"}, {"between": "1,{}"}, {"between": "{},1e12"}])
def test_a_price_in_the_query_is_written_in_digits(api: httpx.Client, query: dict[str, str], price: str) -> None:
    (name, form), *_ = query.items()
    answer = api.get("/v1/forecasts/btc_usdt/probability", params={name: form.format(price)})
    detail_of(answer, 422, name)


@pytest.mark.parametrize("above", ["1", "37000", "0.25", "1.5e3", "1E+3", "5e-07"])
def test_prices_as_programs_write_them(service: LocalApi, above: str) -> None:
    headers = {"Authorization": f"Bearer {service.admin_token}"}
    answer = httpx.get(f"{service.url}/v1/forecasts/btc_usdt/probability", params={"above": above}, headers=headers)
    assert (answer.status_code, answer.json().get("above")) == (200, float(above))


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/forecasts/btc_usdt?horizons=1&horizons=24", "horizons"),
        ("/v1/forecasts/btc_usdt?model=naive&model=naive", "model"),
        ("/v1/forecasts?pairs=btc_usdt&pairs=eth_usdt", "pairs"),
        ("/v1/candles/btc_usdt?limit=1&limit=2", "limit"),
        ("/v1/forecasts/btc_usdt/history?horizon=1&limit=2&horizon=2", "horizon"),
        ("/v1/pairs?interval=1h&interval=4h", "interval"),
    ],
)
def test_a_parameter_that_is_given_twice(api: httpx.Client, path: str, field: str) -> None:
    assert "times: give it once" in detail_of(api.get(path), 422, field)


def test_predict_takes_each_parameter_once(service: LocalApi) -> None:
    query = f"token={service.admin_token}&pair=btc_usdt&pair=eth_usdt"
    detail_of(httpx.put(f"{service.url}/predict?{query}"), 422, "pair")


def test_a_stranger_is_refused_before_the_body_is_read(service: LocalApi) -> None:
    for content in (b"{", b'{"candles": {}}', b"[" * 100_000):
        headers = {"Content-Type": "application/json"}
        answer = httpx.post(f"{service.url}/v1/forecasts/btc_usdt", content=content, headers=headers)
        detail_of(answer, 401, "token")


def test_whoever_has_used_up_the_month_is_refused_before_the_body_is_read(service: LocalApi) -> None:
    user = service.accounts.users.create("used up", "a password for tests")
    headers = {"Authorization": f"Bearer {service.accounts.tokens.create(user.user_id, 'tests')}"}
    owner = owner_of(service.accounts, headers["Authorization"].removeprefix("Bearer "))
    service.accounts.quota.consume(owner, owner.monthly_calls)
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
        refused = [
            client.post("/v1/forecasts/btc_usdt", content=b"{", headers={"Content-Type": "application/json"}),
            client.get("/v1/forecasts?pairs=nobody_usdt"),
            client.put("/predict?pair=nobody_usdt"),
        ]
        assert client.get("/v1/candles/btc_usdt").status_code == 200
    for answer in refused:
        assert "calls of the month are used" in detail_of(answer, 429, None)
        assert answer.headers["RateLimit-Remaining"] == "0"
