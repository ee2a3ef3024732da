"""Calls over HTTP add gateways and replicas, and these add nodes: one pair on a Ray cluster that starts nodes."""

from __future__ import annotations

import json
import time

import pytest

from make_us_rich.accounts import Accounts
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Series
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from serve_app.replica.forecast import ForecastSnapshot
from tests.support.folders import traversable_folder
from tests.support.forecasts import make_forecast
from tests.support.processes import free_port
from tests.support.ray_cluster import autoscaling_cluster, run_driver
from tests.support.servers import migrated_database, serve_environment

pytestmark = pytest.mark.timeout(400)

NOWHERE = "http://127.0.0.1:9"
TOKEN = "mur_an-admin-token-for-tests"
_DRIVER = """
import json, sys, threading, time
import httpx, ray
from ray import serve

from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
from make_us_rich.registry.client import ModelVersion
from make_us_rich.database.pairs import DEFAULT_MAX_REPLICAS, TrackedPair
from make_us_rich.core.pair import Series
from make_us_rich.core.settings import get_settings
from make_us_rich.pipeline.deployment import desired_config

ray.init(log_to_driver=False)
settings = get_settings()
pairs = [TrackedPair("btc_usdt", "dedicated", 1, DEFAULT_MAX_REPLICAS, None, None)]
model = ModelVersion("btc_usdt_1h", 1, "run-1", created_ms=0, tags={})
config = desired_config(settings, pairs, {Series.parse("btc_usdt_1h"): model})
options = config.pop("http_options")
serve.start(proxy_location="HeadOnly", http_options=options)  # the nodes share this machine's ports
_get_global_client().deploy_apps(ServeDeploySchema(**config))

def running(name):
    application = serve.status().applications.get(name)
    deployments = application.deployments.values() if application else ()
    return sum(deployment.replica_states.get("RUNNING", 0) for deployment in deployments)

def state():
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return {"gateways": running("gateway"), "replicas": running("btc_usdt_1h"), "nodes": len(nodes)}

def until(wanted, seconds):
    deadline = time.monotonic() + seconds
    while state() != wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    print(json.dumps(state()), flush=True)

until({"gateways": 1, "replicas": 1, "nodes": 1}, 120)
answers = set()
stop = threading.Event()

def call():
    with httpx.Client(headers={"Authorization": "Bearer " + sys.argv[1]}, timeout=60) as client:
        while not stop.is_set():
            answers.add(client.get(settings.api_url + "/v1/candles/btc_usdt?limit=1000").status_code)

callers = [threading.Thread(target=call) for _ in range(64)]
for caller in callers:
    caller.start()
until({"gateways": 4, "replicas": 4, "nodes": 2}, 200)
stop.set()
for caller in callers:
    caller.join()
print(json.dumps({"answers": sorted(answers)}))
serve.shutdown()
"""


def test_calls_add_gateways_and_replicas_and_these_add_nodes() -> None:
    with traversable_folder() as folder, migrated_database() as database_url:
        kept = make_forecast("btc_usdt", as_of_ms=time.time_ns() // 1_000_000)
        ForecastSnapshot(folder, Series(kept.pair, Interval.H1), "simulated").save(kept)
        pairs_table.put(Database(database_url), "btc_usdt")
        with Accounts(Database(database_url)) as accounts:
            accounts.ensure_service_token(TOKEN)
        environment = {
            "MUR_API_URL": f"http://127.0.0.1:{free_port()}",
            "MUR_CACHE_FOLDER": str(folder),
            "MUR_MARKET": "simulated",
            "MUR_EXCHANGE_URL": NOWHERE,
            "MUR_MLFLOW_URL": NOWHERE,
            "MUR_DATABASE_URL": database_url,
            "MUR_GATEWAY_REPLICAS": "1-4",
            "MUR_ONGOING_CALLS_A_REPLICA": "4",
            "MUR_REPLICA_CPUS": "0.5",
            **{key: value for key, value in serve_environment(folder / "haproxy").items() if "AUTH" not in key},
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)  # the nodes' replicas read them too
            with autoscaling_cluster({"serving": {"CPU": 2, "most": 3}}) as address:
                lines = run_driver(address, _DRIVER, TOKEN)
    seen = [json.loads(line) for line in lines if line.startswith(('{"gateways"', '{"answers"'))]
    assert seen == [
        {"gateways": 1, "replicas": 1, "nodes": 1},
        {"gateways": 4, "replicas": 4, "nodes": 2},
        {"answers": [200]},
    ], "\n".join(lines[-30:])
