"""The HTTP API under load, during swaps and kills, waking from zero, and with 300 pooled pairs.

    .venv/bin/python -m benchmarks.serving [load] [faults] [wake] [pool]

All parts by default. `load` needs `wrk` (apt-get install wrk). The load generator and the servers share this machine,
so compare the ratios, which are taken within one run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import cycle
from statistics import median

import httpx
import psutil

from benchmarks.stack import (
    api_client,
    fit_bitcoin,
    graph_for_pair,
    promote,
    ray_headers,
    replica_pids,
    serving_stack,
    settings_of,
    temporary_stack,
    wait_for,
)
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series, foundation_name
from make_us_rich.core.responses import bearer
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.embedded.lifecycle import Stack
from make_us_rich.pipeline.deployment import apply, desired_config, models_to_serve
from make_us_rich.registry.client import Registry
from make_us_rich.registry.promotion import promote_manually
from make_us_rich.registry.publish import version_tags

PAIRS = ("btc_usdt", "eth_usdt")
POOLED_PAIRS = tuple(Pair.parse(f"p{number:03d}_usdt") for number in range(300))
CLIENTS = 64
ROUNDS, SECONDS = 5, 6
SWAPS, REQUESTS, WAKINGS = 20, 10_000, 5
KILLED_AFTER_SWAP = {4: "btc_usdt_1h", 8: "gateway", 12: "btc_usdt_1h", 16: "gateway"}
BASELINE_PORT = 14_999
_PRINT_FAILURES = "response = function(status, _, body) if status >= 400 then print(status, body) end end\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {"load": _under_load, "faults": _during_faults, "wake": _from_zero, "pool": _pool}
    parser.add_argument("parts", nargs="*", metavar="|".join(parts), help="what to measure; all by default")
    chosen = parser.parse_args().parts or list(parts)
    if unknown := set(chosen) - set(parts):
        parser.error(f"unknown part {', '.join(sorted(unknown))}: choose from {', '.join(parts)}")
    if "load" in chosen and shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    if dedicated := [part for part in chosen if part != "pool"]:
        with serving_stack(PAIRS) as stack:
            for part in dedicated:
                parts[part](stack)
    if "pool" in chosen:
        names = ",".join(POOLED_PAIRS)
        with temporary_stack({"MUR_PAIRS": names, "MUR_POOLED_PAIRS": names}, ["serving"]) as stack:
            _pool(stack)


def _under_load(stack: Stack) -> None:
    """Measure each target in turn, in several rounds, so that other work on the machine affects all of them."""
    _deploy_noop(stack)
    api, token = stack.config.url("api"), stack.secrets.service_token
    baseline = f"http://127.0.0.1:{BASELINE_PORT}"
    command = [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.serving_baselines:row_loop_app"]
    command += ["--port", str(BASELINE_PORT), "--log-level", "warning", "--no-access-log"]
    with subprocess.Popen(command) as process:
        wait_for(f"{baseline}/openapi.json")
        targets = {
            "no-op FastAPI on Ray Serve": ("GET", f"{api}/noop/", ""),
            "GET /v1/forecasts/btc_usdt, admin": ("GET", f"{api}/v1/forecasts/btc_usdt", token),
            "the same, every call a 304": ("GET", f"{api}/v1/forecasts/btc_usdt", token),
            "first version": ("PUT", f"{baseline}/predict", ""),
        }
        loads: dict[str, list[Load]] = {name: [] for name in targets}
        for _ in range(ROUNDS):
            for name, (method, url, sent) in targets.items():
                headers = bearer(sent)
                if "304" in name:
                    headers["If-None-Match"] = httpx.get(url, headers=headers).headers["ETag"]
                loads[name].append(_wrk(method, url, headers))
                print(f"{name:40} {loads[name][-1]}", flush=True)
        process.terminate()
    noop, ours, _, first = loads.values()
    for what, others in (("the empty app's rate", noop), ("the first version's rate", first)):
        times = sorted(mine.rate / other.rate for mine, other in zip(ours, others, strict=True))
        print(f"counted forecasts, times {what}: median {median(times):.2f}, {times[0]:.2f} to {times[-1]:.2f}")


def _deploy_noop(stack: Stack) -> None:
    settings = settings_of(stack)
    pairs = pairs_table.active(Database.from_settings(settings))
    config = desired_config(settings, pairs, models_to_serve(settings, pairs))
    deployment = {
        "name": "noop",
        "ray_actor_options": {"num_cpus": 0},
        "max_ongoing_requests": 1000,
        # Serve writes a log line for each request, as the API's gateway does.
        "logging_config": {"encoding": "JSON", "enable_access_log": True},
    }
    noop = {
        "name": "noop",
        "route_prefix": "/noop",
        "import_path": "benchmarks.serving_baselines:noop",
        "deployments": [deployment],
    }
    url, whole = f"{stack.config.url('ray_dashboard')}/api/serve/applications/", [*config["applications"], noop]
    changed = {**config, "applications": whole}
    httpx.put(url, json=changed, headers=ray_headers(stack), timeout=60).raise_for_status()
    wait_for(f"{stack.config.url('api')}/noop/")


@dataclass(frozen=True)
class Load:
    """What wrk reports: requests per second, latency percentiles, and failures by status."""

    rate: float
    p50: str
    p99: str
    failed: dict[str, int]

    def __str__(self) -> str:
        tail = f"   {self.failed}" if self.failed else ""
        return f"{self.rate:8.0f} requests/s   p50 {self.p50:>9}   p99 {self.p99:>9}{tail}"


def _wrk(method: str, url: str, headers: dict[str, str]) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = '{method}'\n{_PRINT_FAILURES}")
        script.flush()
        command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", "--latency", "-s", script.name]
        command += [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        report = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    p50, p99 = (re.search(rf"^\s+{share}%\s+(\S+)\s*$", report, re.MULTILINE) for share in (50, 99))
    if rate is None or p50 is None or p99 is None:
        raise SystemExit(f"wrk printed no rate and percentiles:\n{report}")
    failed = Counter(re.findall(r"^([45]\d\d)\t.*$", report, re.MULTILINE))
    return Load(float(rate[1]), p50[1], p99[1], dict(failed))


def _during_faults(stack: Stack) -> None:
    """Call from 8 clients without pause while models are swapped and replicas are killed; two gateways."""
    settings = settings_of(stack).model_copy(update={"gateway_replicas": "2"})
    apply(settings)
    fitted, as_of_ms = fit_bitcoin()
    stop = threading.Event()
    counts: Counter[str] = Counter()
    callers = [threading.Thread(target=_call_until, args=(stack, stop, counts, ("btc_usdt",))) for _ in range(8)]
    for caller in callers:
        caller.start()
    swap_s = []
    for number in range(SWAPS):
        promote(stack, fitted, "btc_usdt", as_of_ms)
        started = time.monotonic()
        apply(settings)
        swap_s.append(time.monotonic() - started)
        if number in KILLED_AFTER_SWAP:
            os.kill(replica_pids(stack, KILLED_AFTER_SWAP[number])[0], signal.SIGKILL)
    while counts.total() < REQUESTS:
        time.sleep(0.5)
    stop.set()
    for caller in callers:
        caller.join()
    print(f"{SWAPS} swaps, {len(KILLED_AFTER_SWAP)} replicas killed, {counts.total()} requests: {dict(counts)}")
    print(f"a swap, from apply() to serving: median {median(swap_s):.2f} s, longest {max(swap_s):.2f} s")


def _call_until(stack: Stack, stop: threading.Event, counts: Counter[str], pairs: Sequence[str]) -> None:
    """Request the forecasts of the pairs in turn, and count the answers by status."""
    with api_client(stack) as api:
        for pair in cycle(pairs):
            if stop.is_set():
                return
            try:
                answer = api.get(f"/v1/forecasts/{pair}")
                reason = f" {answer.json()['type']} of {pair}" if answer.is_error else ""
                retry = " with Retry-After" if "Retry-After" in answer.headers else ""
                counts[f"{answer.status_code}{reason}{retry}"] += 1
            except httpx.HTTPError as error:
                counts[type(error).__name__] += 1


def _from_zero(stack: Stack) -> None:
    """Measure the first call of a pair whose replica was scaled to zero, past the gateway's cache."""
    settings = settings_of(stack).model_copy(update={"idle_replica_s": 1})
    pairs_table.put(Database.from_settings(settings), Pair.parse("eth_usdt"), min_replicas=0)
    apply(settings)
    woken_s = []
    with api_client(stack) as api:
        for _ in range(WAKINGS):
            while replica_pids(stack, "eth_usdt_1h"):
                time.sleep(0.5)
            woken_s.append(_seconds(api, "/v1/candles/eth_usdt"))
    print(f"woken from zero: median {median(woken_s):.2f} s, longest {max(woken_s):.2f} s")


def _pool(stack: Stack) -> None:
    """Serve hundreds of pairs from one process, which swaps from the foundation to a model of each pair's own."""
    settings = settings_of(stack)
    _register_models(settings)
    with api_client(stack) as api:
        _swap_all(stack, settings, api)
        (pid,) = replica_pids(stack, "pool")
        os.kill(pid, signal.SIGKILL)
        while replica_pids(stack, "pool") in ([], [pid]):
            time.sleep(0.2)
        started = time.monotonic()
        while not _all_serve(api):
            time.sleep(0.5)
        print(
            f"{len(POOLED_PAIRS)} pooled pairs forecast {time.monotonic() - started:.0f} s after their process started"
        )
        for what in ("first call of each", "second call of each"):
            print(f"{what}: {_milliseconds([_seconds(api, f'/v1/forecasts/{pair}') for pair in POOLED_PAIRS])}")
        print(f"/readyz of all: {_milliseconds([_seconds(api, '/readyz') for _ in range(20)])}")
    for application in ("gateway", "pool"):
        (pid,) = replica_pids(stack, application)
        print(f"{application}: {psutil.Process(pid).memory_full_info().pss / 2**20:.0f} MiB PSS")


def _register_models(settings: Settings) -> None:
    """Register a model of its own for each pooled pair, and make it the champion."""
    fitted, as_of_ms = fit_bitcoin()
    tags = version_tags(fitted, as_of_ms, "simulated")
    with Registry(settings) as registry, Database.from_settings(settings) as database:
        for pair in POOLED_PAIRS:
            name = Series(pair, Interval.H1).name
            graph = graph_for_pair(fitted.onnx, str(pair))
            published = registry.publish(name, name, graph=graph, params={}, metrics={}, tags=tags, description="")
            promote_manually(registry, database, name, published.version, by="a benchmark")


def _swap_all(stack: Stack, settings: Settings, api: httpx.Client) -> None:
    """Swap the models of all pooled pairs at once, while a client calls one pair after the other."""
    while not _all_serve(api, {foundation_name(Interval.H1)}):  # a new stack may still make its first forecasts
        time.sleep(0.5)
    counts: Counter[str] = Counter()
    stop = threading.Event()
    caller = threading.Thread(target=_call_until, args=(stack, stop, counts, POOLED_PAIRS))
    caller.start()
    started = time.monotonic()
    apply(settings)
    while not _all_serve(api):
        time.sleep(0.5)
    seconds = time.monotonic() - started
    stop.set()
    caller.join()
    print(f"swap of {len(POOLED_PAIRS)} models: {seconds:.1f} s; {counts.total()} calls meanwhile: {dict(counts)}")


def _all_serve(api: httpx.Client, names: Collection[str] = ()) -> bool:
    """Return whether every pooled pair serves one of these models, or else its own, and forecasts the newest candle."""
    try:
        states = api.get("/readyz").json()["pairs"]
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    newest_ms = Interval.H1.last_close_ms(current_ms())
    return len(states) == len(POOLED_PAIRS) and all(
        state["as_of_ms"] == newest_ms and (state["serves"] or {}).get("name") in (names or {name})
        for name, state in states.items()
    )


def _seconds(api: httpx.Client, path: str) -> float:
    started = time.perf_counter()
    api.get(path).raise_for_status()
    return time.perf_counter() - started


def _milliseconds(seconds: Sequence[float]) -> str:
    return f"median {median(seconds) * 1000:.1f} ms, longest {max(seconds) * 1000:.0f} ms"


if __name__ == "__main__":
    main()
