"""Real runs of watch_service: the service is down, a pair has a problem, the service recovers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import mlflow
import pytest
import uvicorn
from mlflow import MlflowClient

from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from make_us_rich.registry.client import CHAMPION
from serve_app.api.app import make_app
from tests.support.accounts import transaction
from tests.support.airflow_runs import DagEnvironment
from tests.support.local_replica_client import LocalReplicaClient

pytestmark = [pytest.mark.timeout(400), pytest.mark.usefixtures("three_active_pairs")]


def test_an_outage_is_posted_once_and_so_is_its_end(world: DagEnvironment) -> None:
    settings = world.typed_settings()
    with transaction(world.database_url) as cursor:
        cursor.execute("DELETE FROM forecasts")  # other tests' runs have served pairs here
    _champion_without_model(settings, "eth_usdt_1h")
    before = len(world.embeds())

    down, still_down = (world.run("watch_service", {}) for _ in range(2))
    with _gateway(settings):
        recovering = world.run("watch_service", {})

    posted = world.embeds()[before:]
    assert [run.state for run in (down, still_down, recovering)] == ["failed"] * 3
    assert down.states["alive", ""] == "failed"
    assert recovering.states["alive", ""] == "success"
    assert [embed["title"] for embed in posted] == ["watch_service: alive failed", "watch_service: eth_usdt failed"]
    assert "/healthz does not answer" in posted[0]["description"]
    assert "eth_usdt" in posted[1]["description"]
    assert "it has a champion and is not loaded" in posted[1]["description"]
    assert "works again: alive" in posted[1]["description"]
    assert "chz_usdt" not in posted[1]["description"], "a pair without a champion is not a problem"


@contextmanager
def _gateway(settings: Settings) -> Iterator[None]:
    """Run the real gateway, with no pair loaded."""
    url = settings.database_url.get_secret_value()
    app = make_app(settings, LocalReplicaClient(settings, {}), Accounts(Database(url)))
    port = int(settings.api_url.rpartition(":")[2])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        httpx.get(f"{settings.api_url}/healthz").raise_for_status()
        yield
    finally:
        server.should_exit = True
        thread.join()


def _champion_without_model(settings: Settings, name: str) -> None:
    mlflow.set_tracking_uri(settings.mlflow_url)
    client = MlflowClient()
    run = client.create_run("0")
    client.create_registered_model(name)
    version = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias(name, CHAMPION, version.version)
