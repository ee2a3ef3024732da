"""Requests to a running service: who may make them, what a wrong one is answered, and what they cost."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.support.accounts import transaction
from tests.support.documentation import code_blocks
from tests.support.serving_servers import ServingServers

pytestmark = pytest.mark.timeout(300)


def test_predict_of_version_1_still_works(serving: ServingServers) -> None:
    query = {"currency": "btc", "compare": "usdt", "token": serving.admin_token}
    answer = httpx.put(f"{serving.settings.api_url}/predict", params=query).raise_for_status().json()
    assert answer["prediction"] == answer["quantiles"]["q50"]


@pytest.mark.parametrize(
    ("method", "path", "status", "field"),
    [
        ("GET", "/v1/forecasts/BTCUSDT", 422, "pair"),
        ("GET", "/v1/forecasts/doge_usdt", 404, "pair"),
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
    served = set(api.get("/readyz").raise_for_status().json()["pairs"])
    assert set(api.put("/update_date").raise_for_status().json()["as_of_ms"]) == served >= {"btc_usdt_1h"}


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


def test_the_readmes_example_runs(serving: ServingServers, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = code_blocks("README.md", "python")
    for placeholder, value in (("http://127.0.0.1:28000", serving.settings.api_url), ("mur_...", serving.admin_token)):
        assert example.count(placeholder) == 1
        example = example.replace(placeholder, value)
    exec(compile(example, "README.md", "exec"), {})
    forecast, model, *_ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"btc_usdt closes between [\d,.]+ and [\d,.]+ with a probability of 80 %", forecast)
    assert re.fullmatch(r"median [\d,.]+, model btc_usdt_1h version \d+", model)


def test_the_tutorials_example_runs(
    serving: ServingServers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = code_blocks("docs/tutorial.md", "python")
    monkeypatch.setenv("TOKEN", serving.admin_token)
    assert example.count("http://127.0.0.1:28000") == 1
    exec(example.replace("http://127.0.0.1:28000", serving.settings.api_url), {})
    low, median, high = map(float, capsys.readouterr().out.split())
    assert low < median < high


def test_a_failed_call_is_not_retried(serving: ServingServers, api: httpx.Client) -> None:
    with _failing_quota_statements(serving) as attempts:
        answer = api.get("/v1/forecasts/btc_usdt")
        assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
        time.sleep(3)  # nothing retries in the background either
        assert attempts() == 1
    assert api.get("/v1/forecasts/btc_usdt").status_code == 200


def _limit_plan(serving: ServingServers, user: str, calls: int) -> None:
    with transaction(serving.settings.database_url.get_secret_value()) as cursor:
        cursor.execute("INSERT INTO plans (name, monthly_calls) VALUES (%s, %s) RETURNING plan_id", (user, calls))
        cursor.execute("UPDATE users SET plan_id = %s WHERE name = %s", (cursor.fetchone()[0], user))


@contextmanager
def _failing_quota_statements(serving: ServingServers) -> Iterator[Callable[[], int]]:
    """Make every statement that counts a call fail; the function returned counts the attempts."""
    with transaction(serving.database_url) as cursor:
        cursor.execute("CREATE SEQUENCE tried")
        cursor.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM nextval('tried'); RAISE 'a broken trigger'; END $$"
        )
        cursor.execute("CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON monthly_consumptions EXECUTE FUNCTION fail()")

    def attempts() -> int:
        with transaction(serving.database_url) as cursor:
            cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM tried")
            return int(cursor.fetchone()[0])

    try:
        yield attempts
    finally:
        with transaction(serving.database_url) as cursor:
            cursor.execute("DROP FUNCTION fail() CASCADE")
            cursor.execute("DROP SEQUENCE tried")
