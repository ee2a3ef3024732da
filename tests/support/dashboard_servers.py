"""The dashboard on a real database and a real forecast service, whose gateway and replicas run without Ray."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from psycopg2.extras import execute_values

from dash_app.__main__ import create_server
from dash_app.app import create_app
from make_us_rich.accounts import Accounts
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZONS
from make_us_rich.registry.client import (
    CHAMPION,
    PREVIOUS,
    TAG_AIRFLOW_RUN,
    TAG_COVERAGE_80,
    TAG_SKILL_MARGIN,
    TAG_SKILL_VS_NAIVE,
)
from make_us_rich.registry.promotion import TAG_DECISION
from serve_app.api.app import make_app
from serve_app.replica.forecast import ForecastSnapshot
from tests.support.accounts import transaction
from tests.support.forecasts import make_forecast
from tests.support.local_replica_client import LocalReplicaClient
from tests.support.processes import free_port, running
from tests.support.registry import version_tags
from tests.support.servers import exchange_server, migrated_database, mlflow_server
from tests.support.waiting import wait_until

PAST_HOURS = 40
"""Candles whose closes were forecast."""
_SCORES = (TAG_SKILL_VS_NAIVE, TAG_SKILL_MARGIN, TAG_COVERAGE_80)
_SERVICE_TOKEN, _DASHBOARD_TOKEN = "mur_the-service-token-of-tests", "mur_the-dashboard-token-of-tests"


@dataclass
class DashboardServers:
    """A running dashboard. The forecast service can be stopped and started again."""

    url: str
    settings: Settings
    accounts: Accounts
    pairs: Sequence[str]
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    @property
    def series(self) -> list[Series]:
        return [Series(Pair.parse(pair), interval) for pair in self.pairs for interval in self.settings.intervals]

    def start_service(self) -> None:
        served = {each.name: {"name": each.name, "version": 1, "run_id": "run-1"} for each in self.series}
        database_url = self.settings.database_url.get_secret_value()
        app = make_app(self.settings, LocalReplicaClient(self.settings, served), Accounts(Database(database_url)))
        port = int(self.settings.api_url.rpartition(":")[2])
        self._server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.05)
        httpx.get(f"{self.settings.api_url}/readyz", timeout=120)

    def stop_service(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None


@contextmanager
def dashboard_servers(
    folder: Path,
    pairs: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    *,
    old_models: Sequence[str] = (),
    unscored: Sequence[str] = (),
    registry: bool = False,
    past_forecasts: bool = True,
    own_process: bool = False,
) -> Iterator[DashboardServers]:
    """Run the dashboard, and a service that serves `pairs` by a tiny model; without pairs the service is down.

    Both run in threads of the test's process, which takes a tenth of the CPU of a start of `python -m dash_app`.
    `own_process`: start the dashboard so all the same.

    `old_models`: the pairs whose model forecasts one candle; `unscored`: whose model was never evaluated. `registry`:
    run MLflow too. `past_forecasts`: record forecasts of the past hours of the first three pairs, which the exchange
    must know then.
    """
    with ExitStack() as contexts:
        database_url = contexts.enter_context(migrated_database())
        ours = {
            "MUR_DATABASE_URL": database_url,
            "MUR_MARKET": "simulated",
            "MUR_API_URL": f"http://127.0.0.1:{free_port()}",
            "MUR_SECRET_KEY": "dashboard-test",
            "MUR_DASHBOARD_TOKEN": _DASHBOARD_TOKEN,
            "MUR_CACHE_FOLDER": str(folder / "cache"),
            **({"MUR_PAIRS": ",".join(pairs)} if pairs else {}),
            **(environment or {}),
        }
        if registry:
            ours["MUR_MLFLOW_URL"] = contexts.enter_context(mlflow_server())
        if pairs:
            ours["MUR_EXCHANGE_URL"] = contexts.enter_context(exchange_server())
        settings = Settings(**{key.removeprefix("MUR_").lower(): value for key, value in ours.items()})
        accounts = contexts.enter_context(Accounts(Database(database_url)))
        accounts.ensure_service_token(_SERVICE_TOKEN)
        accounts.ensure_dashboard_token(_DASHBOARD_TOKEN)
        pairs_table.seed(Database(database_url), settings.pairs, ())
        port = free_port()
        made = DashboardServers(f"http://127.0.0.1:{port}", settings, accounts, pairs)
        if pairs:
            for series in made.series:
                horizons = 0 if series.pair in old_models else HORIZONS
                now_ms = time.time_ns() // 1_000_000
                tags = version_tags()
                if series.pair in unscored:
                    tags = {name: value for name, value in tags.items() if name not in _SCORES}
                kept = make_forecast(
                    series.pair, as_of_ms=now_ms, tags=tags, horizons=horizons, interval=series.interval
                )
                ForecastSnapshot(folder / "cache", series, "simulated").save(kept)
            contexts.callback(made.stop_service)
            made.start_service()
            if past_forecasts:
                _record_past_forecasts(made)
        if own_process:
            command = [sys.executable, "-m", "dash_app", "--host=127.0.0.1", f"--port={port}"]
            contexts.enter_context(running(command, f"{made.url}/login", folder / "dash.log", ours))
        else:
            contexts.enter_context(_dashboard_thread(settings, port))
        yield made


@contextmanager
def _dashboard_thread(settings: Settings, port: int) -> Iterator[None]:
    """Run the dashboard's server in a thread, with the options of `python -m dash_app`."""
    app = create_app(settings)
    server = create_server(app, "127.0.0.1", port)

    def close_sockets() -> None:
        for each in list(server._map.values()):
            each.close()

    thread = threading.Thread(target=server.run, name="dashboard")
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):  # it ran before the trigger was pulled for it
            server.trigger.pull_trigger(close_sockets)  # in the server's thread, whose loop ends without a socket
        thread.join()
        server.task_dispatcher.shutdown()
        app.server.extensions["services"].close()


def _record_past_forecasts(stack: DashboardServers, hours: int = PAST_HOURS) -> None:
    """Store forecasts of past hours: bands around the previous close, some of which the close missed."""
    for pair in stack.pairs[:3]:
        candles = wait_until(partial(_candles, stack, pair, hours), 60, f"{pair} has no candles of the exchange")
        closes = candles["close"]
        rows = [
            (pair, open_ms, open_ms, close, *prices, [prices], open_ms / 1000 + 20)
            for open_ms, close in zip(candles["open_time_ms"][1:], closes[:-1], strict=True)
            for prices in [[close * factor for factor in _FACTORS]]
        ]
        with transaction(stack.settings.database_url.get_secret_value()) as cursor:
            execute_values(
                cursor,
                "INSERT INTO forecasts (market, pair, interval, target_open_ms, model_version, as_of_ms, "
                "last_close, q05, q10, q25, q50, q75, q90, q95, horizon_quantiles, made_at) VALUES %s",
                rows,
                template=f"('simulated', %s, '1h', %s, 1, {', '.join(['%s'] * 9)}, %s::real[], to_timestamp(%s))",
            )


def _candles(stack: DashboardServers, pair: str, count: int) -> dict[str, Any] | None:
    """Return the newest candles; None as long as the service has only the few flat ones of its snapshot."""
    headers = {"Authorization": f"Bearer {_SERVICE_TOKEN}"}
    url = f"{stack.settings.api_url}/v1/candles/{pair}?limit={count}"
    candles: dict[str, Any] = httpx.get(url, headers=headers, timeout=60).raise_for_status().json()
    return candles if len(candles["close"]) == count else None


def register_model_versions(mlflow_url: str, name: str, count: int = 3) -> None:
    """Register versions as the pipeline does: the last was refused, the one before it is champion."""
    client = MlflowClient(mlflow_url)
    client.create_registered_model(name)
    for number in range(1, count + 1):
        run = client.create_run("0", run_name=f"{name} run {number}")
        curves = [
            Metric(metric, start - slope * epoch, 0, epoch)
            for epoch in range(8)
            for metric, start, slope in (("train_loss", 0.30, 0.012), ("validation_loss", 0.31, 0.010))
        ]
        client.log_batch(
            run.info.run_id, metrics=[*curves, Metric("pinball", 0.00123, 0, 0)], params=[Param("architecture", "tiny")]
        )
        decision = "refused: not better" if number == count else "promoted: better by 1.2 % than the one before"
        tags = version_tags() | {TAG_DECISION: decision, TAG_AIRFLOW_RUN: f"train_pairs/runs/manual__{number}"}
        client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id, tags=tags)
    client.set_registered_model_alias(name, CHAMPION, str(count - 1))
    client.set_registered_model_alias(name, PREVIOUS, str(count - 2))


def register_undecided_version(mlflow_url: str, name: str, airflow_run: str) -> None:
    """Register a version about which nothing was decided, of a run of Airflow."""
    client = MlflowClient(mlflow_url)
    run = client.create_run("0")
    tags = version_tags() | {TAG_AIRFLOW_RUN: airflow_run}
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id, tags=tags)


_FACTORS = (0.991, 0.993, 0.9965, 1.0001, 1.0035, 1.007, 1.009)
