"""The embedded stack in a temporary folder, with models to serve, for the benchmarks that need running servers."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import onnx

from infra.exchange.simulated import simulate
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.responses import bearer
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.core.times import current_ms
from make_us_rich.database.pool import Database
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.components import Service, responds
from make_us_rich.embedded.lifecycle import Stack
from make_us_rich.embedded.stack_config import PROJECT_ROOT, StackConfig, new_stack_config
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.onnx_model import META_PAIR
from make_us_rich.forecasting.recipe import FittedModel, fit
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.pipeline.deployment import apply
from make_us_rich.registry.client import Registry
from make_us_rich.registry.promotion import promote_manually
from make_us_rich.registry.publish import publish

PORT_BASE = 14_000


@contextmanager
def temporary_stack_config(settings: Mapping[str, str]) -> Iterator[StackConfig]:
    """Configure a stack on the simulated market with these MUR_ settings; stop it and delete its data at the end."""
    # The path is short, because sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="mur-", dir="/tmp", ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o755)  # root's Postgres runs as another user, who must enter it
        os.environ |= {
            "MUR_STACK_HOME": home,
            "MUR_PORT_BASE": str(PORT_BASE),
            "MUR_DAGS_PAUSED": "true",
            "PYTHONPATH": str(PROJECT_ROOT),  # Ray's workers import the benchmarks
            **settings,
        }
        get_settings.cache_clear()
        config = new_stack_config("simulated")
        try:
            yield config
        finally:
            lifecycle.down(config)
            shutil.rmtree(config.runtime, ignore_errors=True)


@contextmanager
def temporary_stack(settings: Mapping[str, str], services: Sequence[Service]) -> Iterator[Stack]:
    """Run these services of a stack, as `mkrich run` does, until the block ends."""
    with temporary_stack_config(settings) as config:
        for service in services:
            lifecycle.up(config, service=service)
        stack = lifecycle.open_stack(config)
        yield stack


@contextmanager
def serving_stack(pairs: Sequence[str], services: Sequence[Service] = ("serving",), **settings: str) -> Iterator[Stack]:
    """Run a stack that serves a small model of each of the pairs."""
    with temporary_stack({"MUR_PAIRS": ",".join(pairs), **settings}, services) as stack:
        fitted, as_of_ms = fit_bitcoin()
        for pair in pairs:
            promote(stack, fitted, pair, as_of_ms)
        apply(settings_of(stack))
        yield stack


def settings_of(stack: Stack) -> Settings:
    """Return the settings that the stack's programs read from their environment."""
    names = {f"MUR_{name.upper()}": name for name in Settings.model_fields}
    given = {names[key]: value for key, value in stack.environment.items() if key in names}
    return Settings.model_validate(given)


def fit_bitcoin() -> tuple[FittedModel, int]:
    """Fit a small model of simulated bitcoin; returns it and the as_of of its candles in milliseconds."""
    as_of_ms = Interval.H1.last_close_ms(current_ms())
    bitcoin = simulate(as_of_ms)["BTCUSDT"]
    bitcoin = bitcoin[bitcoin.open_time_ms < as_of_ms]
    config = TrainingConfig(epochs=1, training=2500)
    return fit(bitcoin, bitcoin, pair="btc_usdt", task=TrainingTask(as_of_ms, config)), as_of_ms


def graph_for_pair(graph: bytes, pair: str) -> bytes:
    """Return the same model with another pair in its metadata, which a replica checks."""
    model = onnx.load_from_string(graph)
    for item in model.metadata_props:
        if item.key == META_PAIR:
            item.value = pair
    return bytes(model.SerializeToString())


def promote(stack: Stack, fitted: FittedModel, pair: str, as_of_ms: int) -> None:
    """Register the model as a new version of the pair and make it the champion."""
    settings = settings_of(stack)
    name = Series(Pair.parse(pair), Interval.H1).name
    model = replace(fitted, onnx=graph_for_pair(fitted.onnx, pair))
    with Registry(settings) as registry, Database.from_settings(settings) as database:
        published = publish(registry, model, name=name, as_of_ms=as_of_ms, market="simulated", tags={})
        promote_manually(registry, database, name, published.version, by="a benchmark")


def api_client(stack: Stack) -> httpx.Client:
    """Return a client of the HTTP API, whose calls no quota limits."""
    headers = bearer(stack.secrets.service_token)
    return httpx.Client(base_url=stack.config.url("api"), headers=headers, timeout=60)


def ray_headers(stack: Stack) -> dict[str, str]:
    return bearer(stack.secrets.ray_token)


def replica_pids(stack: Stack, application: str) -> list[int]:
    """Return the process ids of a Serve application's replicas."""
    url = f"{stack.config.url('ray_dashboard')}/api/serve/applications/"
    answer = httpx.get(url, headers=ray_headers(stack)).raise_for_status().json()
    (deployment,) = answer["applications"][application]["deployments"].values()
    return [replica["pid"] for replica in deployment["replicas"] if replica.get("pid")]


def wait_for(url: str) -> None:
    while not responds(url):
        time.sleep(0.2)


def print_table(rows: Sequence[tuple[str, str, str]]) -> None:
    """Print a Markdown table of what was measured, for docs/performance.md."""
    print("\n| what | measured | goal |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
