"""Real DAG runs over Postgres, S3, MLflow, the replay exchange and a Discord sink; Ray where a test asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.market.object_store import ObjectStore
from tests.support.airflow_runs import AirflowHome, DagEnvironment
from tests.support.folders import traversable_folder
from tests.support.processes import free_port
from tests.support.servers import (
    MLFLOW_LOGIN,
    RAY_TOKEN,
    S3_KEYS,
    discord_server,
    exchange_server,
    migrated_database,
    mlflow_server,
    ray_head,
    s3_server,
)


@pytest.fixture(scope="session")
def world() -> Iterator[DagEnvironment]:
    with ExitStack() as contexts:
        folder = contexts.enter_context(traversable_folder())
        database_url = contexts.enter_context(migrated_database())
        exchange_url = contexts.enter_context(exchange_server())
        discord_url = contexts.enter_context(discord_server())
        mlflow_url = contexts.enter_context(mlflow_server())
        s3_url = contexts.enter_context(s3_server())
        ObjectStore(s3_url, *S3_KEYS, "candles").ensure_bucket()
        settings = {
            "MUR_DATABASE_URL": database_url,
            "MUR_EXCHANGE_URL": exchange_url,
            "MUR_MARKET": "simulated",
            "MUR_DISCORD_WEBHOOK_URL": f"{discord_url}/api/webhooks/1/local",
            "MUR_S3_ENDPOINT_URL": s3_url,
            "MUR_S3_ACCESS_KEY": S3_KEYS[0],
            "MUR_S3_SECRET_KEY": S3_KEYS[1],
            "MUR_MLFLOW_URL": mlflow_url,
            "MUR_HISTORY_CANDLES": "1500",
            "MUR_API_URL": f"http://127.0.0.1:{free_port()}",
            "MUR_RAY_URL": f"http://127.0.0.1:{free_port()}",  # nothing listens there
        }
        with AirflowHome(folder / "airflow", {}, first_delay_s=0.001) as airflow:
            yield DagEnvironment(airflow, settings)


@pytest.fixture(scope="session")
def with_ray(world: DagEnvironment) -> Iterator[DagEnvironment]:
    """The environment of the other tests, with a Ray head that trains and serves, and a universe of four pairs."""
    settings = {
        **world.settings,
        "MUR_FOUNDATION_PAIRS": "4",
        "MUR_HISTORY_CANDLES": "3000",
        "MUR_TRAIN_WORKERS": "1",
        "MUR_REPLICA_CPUS": "0",
        "MUR_API_URL": f"http://127.0.0.1:{free_port()}",
        "MUR_RAY_TOKEN": RAY_TOKEN,
        "MUR_MLFLOW_USER": MLFLOW_LOGIN[0],
        "MUR_MLFLOW_PASSWORD": MLFLOW_LOGIN[1],
    }
    with (
        traversable_folder() as folder,
        ray_head(folder, settings | {"MUR_CACHE_FOLDER": f"{folder}/cache"}) as ray_url,
    ):
        connection = {"conn_type": "http", "host": ray_url, "password": RAY_TOKEN}
        settings |= {"MUR_RAY_URL": ray_url, "AIRFLOW_CONN_RAY_DEFAULT": json.dumps(connection)}
        yield DagEnvironment(world.airflow, settings)


@pytest.fixture
def three_active_pairs(world: DagEnvironment) -> Iterator[None]:
    """Activate three pairs; no failure of an earlier test counts as posted."""
    world.airflow.forget_failures()
    for pair in ("btc_usdt", "eth_usdt", "chz_usdt"):
        pairs_table.put(Database(world.database_url), pair, plan="dedicated")
        pairs_table.unpark(Database(world.database_url), pair)
    yield
    httpx.delete(f"{world.settings['MUR_EXCHANGE_URL']}/_control/faults").raise_for_status()
