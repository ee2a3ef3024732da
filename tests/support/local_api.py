"""The HTTP API in this process, with real Postgres and the replay exchange, without Ray Serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from make_us_rich.accounts import Accounts
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Series
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZONS
from serve_app.api.app import make_app
from serve_app.replica.forecast import ForecastSnapshot
from tests.support.clocks import stopped_clocks
from tests.support.forecasts import make_forecast
from tests.support.local_replica_client import LocalReplicaClient
from tests.support.processes import free_port
from tests.support.servers import exchange_server, migrated_database

_ADMIN_TOKEN = "mur_an-admin-token-for-tests"
_DASHBOARD_TOKEN = "mur_the-dashboard-token-of-tests"


@dataclass(frozen=True)
class LocalApi:
    url: str
    admin_token: str
    dashboard_token: str
    accounts: Accounts


@contextmanager
def local_api(
    folder: Path,
    pairs: Sequence[str],
    mlflow_url: str = "http://127.0.0.1:9",
    *,
    first_contract: Collection[str] = (),
    intervals: Sequence[Interval] = (Interval.H1,),
    version: int = 1,
    tags: Mapping[str, str] | None = None,
) -> Iterator[LocalApi]:
    """Run it until the block ends; no candle closes meanwhile. There is no registry unless one is given.

    `first_contract`: pairs whose models forecast one horizon. `version` and `tags`: of the models that serve.
    """
    with migrated_database() as database_url, exchange_server() as exchange_url, stopped_clocks(exchange_url) as now_ms:
        pairs_table.seed(Database(database_url), pairs, pooled=())
        settings = Settings(
            pairs=tuple(pairs),
            intervals=tuple(intervals),
            market="simulated",
            exchange_url=exchange_url,
            database_url=database_url,
            mlflow_url=mlflow_url,
            cache_folder=str(folder / "cache"),
        )
        names = [f"{pair}_{interval}" for interval in intervals for pair in pairs]
        for series in map(Series.parse, names):
            horizons = 0 if series.pair in first_contract else HORIZONS
            kept = make_forecast(
                series.pair, as_of_ms=now_ms, version=version, tags=tags, horizons=horizons, interval=series.interval
            )
            ForecastSnapshot(folder / "cache", series, "simulated").save(kept)
        accounts = Accounts(Database(database_url))
        accounts.ensure_service_token(_ADMIN_TOKEN)
        accounts.ensure_dashboard_token(_DASHBOARD_TOKEN)
        served = {name: {"name": name, "version": version, "run_id": f"run-{version}"} for name in names}
        app = make_app(settings, LocalReplicaClient(settings, served), accounts)
        server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        url = f"http://127.0.0.1:{server.config.port}"
        while not server.started:
            time.sleep(0.05)
        httpx.get(f"{url}/readyz", timeout=60).raise_for_status()
        yield LocalApi(url, _ADMIN_TOKEN, _DASHBOARD_TOKEN, accounts)
        server.should_exit = True
        thread.join()
