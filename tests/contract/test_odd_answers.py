"""Unexpected answers, not JSON or JSON of another shape: clients raise their own error, the health check goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from make_us_rich.client import Client, ServiceUnavailable
from make_us_rich.core.errors import RegistryError
from make_us_rich.core.settings import Settings
from make_us_rich.operations.health import check_components
from make_us_rich.pipeline.airflow import Airflow, AirflowError
from make_us_rich.pipeline.ray_jobs import RayJobsClient, RayUnreachable
from make_us_rich.registry.client import Registry
from tests.support.fixed_response import NOT_FOUND_PAGE, fixed_response_server
from tests.support.processes import free_port

pytestmark = pytest.mark.usefixtures("quick_retries")

ODD = {
    "a page": NOT_FOUND_PAGE,
    "nothing": b"",
    "a list": b"[]",
    "null": b"null",
    "an empty object": b"{}",
    "another shape": b'{"pairs": 7, "applications": 7, "dag_runs": 7, "model_version": [], "jobs": 7}',
    "wrong items": b'{"pairs": {"btc_usdt": 7}, "applications": 7, "scheduler": 7, "model_versions": [7]}',
}


@pytest.fixture(params=ODD.values(), ids=ODD.keys())
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with fixed_response_server(200, request.param, "application/json") as made:
        yield made


def test_the_health_check_names_every_component_with_an_unexpected_answer(url: str) -> None:
    names = ("mlflow_url", "ray_url", "airflow_url", "api_url", "exchange_url", "s3_endpoint_url")
    nobody = f"postgresql://nobody@127.0.0.1:{free_port()}/x"
    findings = {
        item.name: item for item in check_components(Settings(**dict.fromkeys(names, url), database_url=nobody))
    }

    assert len(findings) >= 9
    for name in ("ray", "api", "exchange", "s3"):
        assert findings[name].state == "failed", findings[name]
        assert findings[name].way_out
    for name in ("airflow", "mlflow"):
        assert findings[name].state != "ok", findings[name]


@pytest.mark.parametrize(
    "ask",
    [
        lambda api: api.pairs(),
        lambda api: api.forecast("btc_usdt"),
        lambda api: api.forecasts(),
        lambda api: api.probability("btc_usdt", above=1.0),
        lambda api: api.history("btc_usdt", 3),
        lambda api: api.candles("btc_usdt", 3),
        lambda api: api.usage(),
        lambda api: api.update_models(),
    ],
    ids=["pairs", "forecast", "forecasts", "probability", "history", "candles", "usage", "update"],
)
def test_the_client_of_the_api(url: str, ask: Callable[[Client], object]) -> None:
    with Client(url, "mur_token") as api, pytest.raises(ServiceUnavailable, match="something unexpected"):
        ask(api)


def test_the_client_of_airflow(url: str) -> None:
    with pytest.raises(AirflowError, match="something unexpected"):
        Airflow(url, "admin", "password")


@pytest.mark.parametrize(
    "ask",
    [
        lambda registry: registry.find("btc_usdt_1h", "champion"),
        lambda registry: registry.get("btc_usdt_1h", 1),
        lambda registry: registry.run("0" * 32),
    ],
    ids=["find", "get", "run"],
)
def test_the_registry(url: str, ask: Callable[[Registry], object]) -> None:
    with Registry(Settings(mlflow_url=url)) as registry, pytest.raises(RegistryError):
        ask(registry)


def test_the_client_of_ray_jobs(url: str) -> None:
    async def find() -> None:
        async with RayJobsClient(url) as ray:
            await ray.find("job-1")

    with pytest.raises(RayUnreachable, match="something unexpected"):
        asyncio.run(find())
