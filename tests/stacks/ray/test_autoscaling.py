"""Load adds replicas, and replicas add nodes: one pair on a Ray cluster that starts its nodes on this machine."""

from __future__ import annotations

import json
import time

import pytest

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Series
from serve_app.replica.forecast import ForecastSnapshot
from tests.support.folders import traversable_folder
from tests.support.forecasts import make_forecast
from tests.support.ray_cluster import autoscaling_cluster, run_driver

pytestmark = pytest.mark.timeout(400)

NOWHERE = "http://127.0.0.1:9"
_DRIVER = """
import asyncio, json, time
import ray
from ray import serve

from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
from make_us_rich.registry.client import ModelVersion
from make_us_rich.database.pairs import DEFAULT_MAX_REPLICAS, TrackedPair
from make_us_rich.core.pair import Series
from make_us_rich.core.settings import get_settings
from make_us_rich.operations.serve_deploy import desired_config

ray.init(log_to_driver=False)
serve.start(http_options={"location": "NoServer"})
pairs = [TrackedPair("btc_usdt", "dedicated", 1, DEFAULT_MAX_REPLICAS, None, None)]
model = ModelVersion("btc_usdt_1h", 1, "run-1", created_ms=0, tags={})
config = desired_config(get_settings(), pairs, {Series.parse("btc_usdt_1h"): model})
config["applications"] = config["applications"][1:]  # the gateway needs Postgres
config.pop("http_options")
_get_global_client().deploy_apps(ServeDeploySchema(**config))

def state():
    application = serve.status().applications.get("btc_usdt_1h")
    states = application.deployments["forecaster"].replica_states if application and application.deployments else {}
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return {"replicas": states.get("RUNNING", 0), "nodes": len(nodes)}

def until(wanted, seconds):
    deadline = time.monotonic() + seconds
    while state() != wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    print(json.dumps(state()), flush=True)

until({"replicas": 1, "nodes": 1}, 90)

async def load():
    handle = serve.get_app_handle("btc_usdt_1h")
    async def call():
        while True:
            await handle.candles.remote(1000)
    callers = [asyncio.create_task(call()) for _ in range(128)]
    await asyncio.to_thread(until, {"replicas": 4, "nodes": 2}, 150)
    for caller in callers:
        caller.cancel()

asyncio.run(load())
serve.shutdown()
"""


def test_load_adds_replicas_and_replicas_add_nodes() -> None:
    with traversable_folder() as folder:
        kept = make_forecast("btc_usdt", as_of_ms=time.time_ns() // 1_000_000)
        ForecastSnapshot(folder, Series(kept.pair, Interval.H1), "simulated").save(kept)
        environment = {
            "MUR_CACHE_FOLDER": str(folder),
            "MUR_MARKET": "simulated",
            "MUR_EXCHANGE_URL": NOWHERE,
            "MUR_MLFLOW_URL": NOWHERE,
            "MUR_DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:9/none",
            "MUR_REPLICA_CPUS": "0.5",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)  # the nodes' replicas read them too
            with autoscaling_cluster({"serving": {"CPU": 1, "most": 3}}) as address:
                lines = run_driver(address, _DRIVER)
    seen = [json.loads(line) for line in lines if line.startswith('{"replicas"')]
    assert seen == [{"replicas": 1, "nodes": 1}, {"replicas": 4, "nodes": 2}], "\\n".join(lines[-30:])
