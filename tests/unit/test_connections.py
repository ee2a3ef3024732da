"""The clients of our servers close idle connections before the servers do.

Otherwise a server may close a connection at the moment at which a request is on its way, and the call fails: with a
link of 100 ms, every call that came 4.8 to 5.0 s after the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from make_us_rich.client import Client
from make_us_rich.core.settings import Settings
from make_us_rich.pipeline.airflow import Airflow
from make_us_rich.registry.client import Registry
from tests.support.fixed_response import fixed_response_server

LONGEST_WAY_S = 2.0


@pytest.fixture(params=["registry", "airflow", "api"])
def client(request: pytest.FixtureRequest) -> Iterator[Registry | Airflow | Client]:
    with fixed_response_server(200, b'{"access_token": "a-token"}', "application/json") as url:
        match request.param:
            case "registry":
                made: Registry | Airflow | Client = Registry(Settings(mlflow_url=url))
            case "airflow":
                made = Airflow(url, "admin", "a password")
            case _:
                made = Client(url, token="")
        with made:
            yield made


def test_an_idle_connection_is_closed_well_before_uvicorn_closes_it(client: Registry | Airflow | Client) -> None:
    uvicorn_closes_after_s = uvicorn.Config(app="").timeout_keep_alive
    transport = client._http._transport
    assert isinstance(transport, httpx.HTTPTransport)
    assert transport._pool._keepalive_expiry is not None
    assert transport._pool._keepalive_expiry + LONGEST_WAY_S < uvicorn_closes_after_s
