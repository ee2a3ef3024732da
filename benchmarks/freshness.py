"""How long after a candle's close each pair's forecast is made from it: asked for, and pushed by the exchange.

    .venv/bin/python -m benchmarks.freshness [--pairs 300]

One process holds all pairs, as the pool of the HTTP API does, with the shipped foundation as their model. It uses the
stack's Postgres, and a replay exchange of its own. The clocks of this process and of the exchange are moved to just
before a full hour, so that no run waits for one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks.stack import settings_of, temporary_stack, wait_for
from infra.exchange.simulated import simulate
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair, Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms
from make_us_rich.market.window import Window
from make_us_rich.registry import shipped
from make_us_rich.registry.client import ModelVersion
from serve_app.replica.forecast import ComputedForecast, ForecastSnapshot
from serve_app.replica.forecaster import Pool, WantedModel
from serve_app.replica.models import LoadedModel, ModelCache

MODEL = WantedModel(name=foundation_name(Interval.H1), version=1, run_id="shipped")
_GIVE_UP_S = 120
_POLL_S = 0.2  # asking 300 pairs takes a hundredth of a second
_EXCHANGE_PORT = 900  # from the stack's first port, beyond those of its components
_real_time_ns = time.time_ns


@dataclass(frozen=True)
class Close:
    """What one close took. seconds: from the close to the forecast, float [pairs]."""

    seconds: np.ndarray[tuple[int], np.dtype[np.float64]]
    requests: int
    weight: int
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300)
    args = parser.parse_args()
    pairs = [Pair.parse(f"p{number:03d}_usdt") for number in range(args.pairs)]
    with temporary_stack({}, ("serving",)) as stack, _exchange(pairs, stack.config.port_base + _EXCHANGE_PORT) as url:
        changes = {"exchange_url": url, "exchange_stream_url": url.replace("http", "ws", 1)}
        pushed = settings_of(stack).model_copy(update=changes)
        _save_snapshots(pairs, pushed)
        print(f"{args.pairs} pairs in one process\n")
        print("| candles are | fresh after, median | p99 | longest | requests | weight | CPU of the process |")
        print("|---|---|---|---|---|---|---|")
        modes = {"asked for": pushed.model_copy(update={"exchange_stream_url": ""}), "pushed": pushed}
        for hours, (name, settings) in enumerate(modes.items(), 1):
            close = asyncio.run(_close(pairs, settings, hours))
            median, p99, longest = np.quantile(close.seconds, [0.5, 0.99, 1])
            print(
                f"| {name} | {median:.2f} s | {p99:.2f} s | {longest:.2f} s "
                f"| {close.requests} | {close.weight} | {close.cpu_s:.1f} s |",
                flush=True,
            )


@contextmanager
def _exchange(pairs: list[Pair], port: int) -> Iterator[str]:
    """Run an exchange with these pairs, which the stack itself does not serve; gives its URL."""
    command = [sys.executable, "-m", "infra.exchange", "--port", str(port), "--pairs", ",".join(pairs)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command) as server:
        try:
            wait_for(f"{url}/api/v3/ping")
            yield url
        finally:
            server.terminate()


def _save_snapshots(pairs: list[Pair], settings: Settings) -> None:
    """Write what a replica finds on disk after a restart, so that hundreds of models need not be registered first."""
    found = shipped.find("simulated", Interval.H1)
    assert found is not None
    now_ms = _real_time_ns() // 1_000_000
    version = ModelVersion(MODEL["name"], MODEL["version"], MODEL["run_id"], created_ms=now_ms, tags={})
    model = LoadedModel(version, found.graph, ModelCache(1))
    bitcoin = simulate(now_ms)["BTCUSDT"]
    recent = bitcoin[bitcoin.open_time_ms < Interval.H1.last_close_ms(now_ms)][-1000:]
    for pair in pairs:
        forecast = ComputedForecast.compute(pair, model, Window(recent, recent, Interval.H1))
        ForecastSnapshot(Path(settings.cache_folder), Series(pair, Interval.H1), settings.market).save(forecast)


async def _close(pairs: list[Pair], settings: Settings, hours: int) -> Close:
    """Pass the close in so many hours with a new process's worth of forecasters."""
    names = [Series(pair, Interval.H1).name for pair in pairs]
    lead_s = 20 + 0.1 * len(pairs)
    close_ms = Interval.H1.last_close_ms(_real_time_ns() // 1_000_000) + hours * HOUR_MS
    _move_clocks(settings, close_ms - int(lead_s * 1000))
    pool = Pool(settings)
    try:
        await pool.reconfigure(dict.fromkeys(names, MODEL))
        await _fresh(pool, names, close_ms - HOUR_MS)
        assert current_ms() < close_ms - 2000, "the machine is too slow: the forecasters took until the close to start"
        await asyncio.sleep((close_ms - current_ms()) / 1000 - 1)
        _usage(settings, forget=True)
        cpu_s = _cpu_s()
        times_ms = await _fresh(pool, names, close_ms)
        used = _usage(settings)
        seconds = (np.array(list(times_ms.values())) - close_ms) / 1000
        return Close(seconds, used["requests"], used["weight"], _cpu_s() - cpu_s)
    finally:
        await pool.reconfigure({})


async def _fresh(pool: Pool, names: list[str], close_ms: int) -> dict[str, int]:
    """Wait until every forecast is from the candle of this close; returns when each was, by name, milliseconds."""
    times_ms: dict[str, int] = {}
    deadline = time.monotonic() + _GIVE_UP_S
    while len(times_ms) < len(names):
        for name, state in (await pool.states("state")).items():
            if state.as_of_ms == close_ms:
                times_ms.setdefault(name, current_ms())
        assert time.monotonic() < deadline, f"{len(names) - len(times_ms)} pairs have no forecast"
        await asyncio.sleep(_POLL_S)
    return times_ms


def _move_clocks(settings: Settings, now_ms: int) -> None:
    offset_ms = now_ms - _real_time_ns() // 1_000_000
    httpx.post(f"{settings.exchange_url}/_control/clock", json={"offset_ms": offset_ms}).raise_for_status()
    time.time_ns = lambda: _real_time_ns() + offset_ms * 1_000_000


def _usage(settings: Settings, *, forget: bool = False) -> dict[str, int]:
    url = f"{settings.exchange_url}/_control/usage"
    answer = httpx.delete(url) if forget else httpx.get(url)
    used: dict[str, int] = answer.raise_for_status().json()
    return used


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    main()
