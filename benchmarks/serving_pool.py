"""Hundreds of rarely asked pairs in one process: `python -m benchmarks.serving_pool`.

Each has a model of its own, of the default architecture; what differs between them is the name in their metadata,
which is enough for each to be a session of its own.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import onnx
import psutil

from benchmarks.serving import put_config
from infra.exchange.simulated import simulate
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import pairs as pairs_table
from make_us_rich.forecasting.contract import META_PAIR
from make_us_rich.forecasting.pipeline import TrainingConfig, fit
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import Window
from make_us_rich.operations.serve_config import desired_config
from make_us_rich.registry.client import ModelVersion
from serve_app.replica.forecast import Current, Loaded
from serve_app.replica.model_cache import ModelCache
from serve_app.replica.snapshot import ForecastSnapshot
from tests.support.folders import traversable_folder
from tests.support.processes import PROJECT_ROOT
from tests.support.serving_servers import ServingServers, replica_pids, serving_servers

PAIRS = tuple(f"p{number:03d}_usdt" for number in range(300))
KEPT = 1000


def main() -> None:
    os.environ["MUR_PAIRS"] = ",".join(PAIRS)  # the exchange simulates them
    with traversable_folder() as folder:
        environment = {"MUR_PAIRS": ",".join(PAIRS), "PYTHONPATH": str(PROJECT_ROOT)}
        with serving_servers(folder, environment) as stack:
            _measure(stack, _kept_models(stack))


def _kept_models(stack: ServingServers) -> dict[str, ModelVersion]:
    """What the replicas find on disk, as after a restart: nobody has to register 300 models first."""
    as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    bitcoin = simulate(as_of_ms)["BTCUSDT"]
    bitcoin = bitcoin[bitcoin.open_time_ms < as_of_ms]
    config = TrainingConfig(epochs=1, training=2500)
    graph = fit(bitcoin, bitcoin, pair="btc_usdt", interval=Interval.H1, as_of_ms=as_of_ms, config=config).onnx
    return {pair: _keep(stack, pair, graph, bitcoin[-KEPT:], as_of_ms) for pair in PAIRS}


def _keep(stack: ServingServers, pair: str, graph: bytes, candles: Candles, as_of_ms: int) -> ModelVersion:
    model = onnx.load_from_string(graph)
    for item in model.metadata_props:
        if item.key == META_PAIR:
            item.value = pair
    version = ModelVersion(f"{pair}_1h", 1, run_id=pair, created_ms=as_of_ms, tags={})
    loaded = Loaded(version, model.SerializeToString(), ModelCache(1))
    parsed = Pair.parse(pair)
    made = Current.compute(parsed, loaded, Window(candles, candles, Interval.H1))
    ForecastSnapshot(Path(stack.settings.cache_folder), parsed, Interval.H1, "simulated").save(made)
    return version


def _measure(stack: ServingServers, models: dict[str, ModelVersion]) -> None:
    for pair in PAIRS:
        pairs_table.put(stack.database_url, pair, plan="pooled")
    started = time.monotonic()
    put_config(stack, desired_config(stack.settings, pairs_table.active(stack.database_url), models))
    with httpx.Client(base_url=stack.settings.api_url, timeout=60) as api:
        api.headers["Authorization"] = f"Bearer {stack.admin_token}"
        while not _all_ready(api):
            time.sleep(0.5)
        print(f"{len(PAIRS)} pooled pairs forecast {time.monotonic() - started:.0f} s after the deployment")
        print(f"one after the other, first call: {_timed(api, PAIRS)}")
        print(f"again:                           {_timed(api, PAIRS)}")
        print(f"/readyz of all: {_median_ms([_seconds(api, '/readyz') for _ in range(20)])}")
    for application in ("gateway", "pool"):
        (pid,) = replica_pids(stack, application)
        print(f"{application}: {psutil.Process(pid).memory_full_info().pss / 2**20:.0f} MiB PSS")


def _all_ready(api: httpx.Client) -> bool:
    try:
        states = api.get("/readyz").json()["pairs"].values()
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    return len(states) == len(PAIRS) and all(state["as_of_ms"] == newest_ms for state in states)


def _timed(api: httpx.Client, pairs: Sequence[str]) -> str:
    return _median_ms([_seconds(api, f"/v1/forecasts/{pair}") for pair in pairs])


def _seconds(api: httpx.Client, path: str) -> float:
    started = time.perf_counter()
    api.get(path).raise_for_status()
    return time.perf_counter() - started


def _median_ms(seconds: Sequence[float]) -> str:
    return f"median {statistics.median(seconds) * 1000:.1f} ms, longest {max(seconds) * 1000:.0f} ms"


if __name__ == "__main__":
    main()
