"""The permissions of the dashboard's own API token, at a real gateway."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from make_us_rich.client import Client, ServiceRefused
from make_us_rich.core.errors import InputError
from tests.support.accounts import owner_of
from tests.support.local_api import LocalApi


@pytest.fixture
def dashboard(service: LocalApi) -> Iterator[Client]:
    with Client(service.url, service.dashboard_token) as client:
        yield client


def test_the_token_reads_everything_the_dashboard_shows(dashboard: Client) -> None:
    assert dashboard.forecast("btc_usdt").pair == "btc_usdt"
    assert dashboard.forecasts()[0]
    assert dashboard.history("btc_usdt", 3) is not None
    assert len(dashboard.candles("btc_usdt", 3)) == 3
    assert dashboard.usage().limit > 1_000_000


def test_the_token_may_update_the_served_models(service: LocalApi) -> None:
    headers = {"Authorization": f"Bearer {service.dashboard_token}"}
    answer = httpx.put(f"{service.url}/update_models", headers=headers, timeout=60)
    assert answer.status_code == 503, answer.text  # authorized; 503 because no Ray runs here


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/update_date"),
        ("PUT", "/predict?pair=btc_usdt"),
        ("POST", "/v1/forecasts/btc_usdt"),
        ("GET", "/v1/models/btc_usdt"),
    ],
)
def test_the_token_is_refused_every_other_endpoint(service: LocalApi, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {service.dashboard_token}"}
    answer = httpx.request(method, f"{service.url}{path}", headers=headers, json={})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:make-us-rich:problem:not-for-the-dashboard")


def test_the_token_has_no_admin_role_and_no_rate_limit(service: LocalApi) -> None:
    owner = owner_of(service.accounts, service.dashboard_token)
    assert not owner.is_admin
    headers = {"Authorization": f"Bearer {service.dashboard_token}"}
    with httpx.Client(base_url=service.url, headers=headers) as client:
        assert {client.get("/v1/usage").status_code for _ in range(700)} == {200}


def test_the_service_token_and_the_dashboard_token_are_replaced_independently(service: LocalApi) -> None:
    service.accounts.ensure_dashboard_token("mur_another-dashboard-token")
    assert owner_of(service.accounts, service.admin_token).is_admin
    service.accounts.ensure_dashboard_token(
        service.dashboard_token
    )  # the first token again, which was revoked just now
    assert owner_of(service.accounts, service.dashboard_token).is_dashboard
    with pytest.raises(InputError, match="in use as another one"):
        service.accounts.ensure_dashboard_token(service.admin_token)


@pytest.mark.parametrize("pair", ["../usage", "..", "btc_usdt/history?limit=1", "btc_usdt#", "a b", "é", "%2e%2e"])
def test_the_client_encodes_an_unusual_pair_as_one_path_segment(service: LocalApi, pair: str) -> None:
    with Client(service.url, service.admin_token) as client:
        for ask in (client.forecast, lambda pair: client.history(pair, 1), lambda pair: client.candles(pair, 1)):
            with pytest.raises(ServiceRefused) as caught:
                ask(pair)
            assert (caught.value.status, caught.value.field) in ((422, "pair"), (404, None))


def test_the_client_encodes_an_unusual_model_as_one_query_value(service: LocalApi) -> None:
    with Client(service.url, service.admin_token) as client, pytest.raises(ServiceRefused) as caught:
        client.forecast("btc_usdt", "naive&interval=4h")
    assert caught.value.field == "model"
