"""Serving under load, under fire and from sleep: `python -m benchmarks.serving [load] [fire] [sleep]`, all by default.

Needs `wrk` (apt-get install wrk). Everything is measured in one run on one machine, load generator included, so compare
the ratios.
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
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from make_us_rich.database import pairs as pairs_table
from make_us_rich.operations.serve_config import desired_config
from make_us_rich.operations.serve_deploy import apply, models_to_serve
from tests.support.folders import traversable_folder
from tests.support.processes import PROJECT_ROOT, free_port, running
from tests.support.serving_servers import ServingServers, ray_headers, replica_pids, serving_servers
from tests.support.tiny_model import LOG_RETURNS, tiny_model

PAIRS = ("btc_usdt", "eth_usdt")
CLIENTS = 64
ROUNDS, SECONDS = 5, 6
SWAPS, REQUESTS, WAKINGS = 20, 10_000, 5
# What is killed after which swap.
KILLS = {4: "btc_usdt_1h", 8: "gateway", 12: "btc_usdt_1h", 16: "gateway"}


_TELL_FAILURES = "response = function(status, _, body) if status >= 400 then print(status, body) end end\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {"load": _under_load, "fire": _under_fire, "sleep": _from_zero}
    parser.add_argument("parts", nargs="*", metavar="|".join(parts), help="what to measure; all by default")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"unknown part {', '.join(sorted(unknown))}: choose from {', '.join(parts)}")
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    with traversable_folder() as folder:
        environment = {"MUR_PAIRS": ",".join(PAIRS), "PYTHONPATH": str(PROJECT_ROOT)}
        with serving_servers(folder, environment) as stack:
            for pair in PAIRS:
                stack.promote(pair, tiny_model(pair))
            apply(stack.settings)
            for part in arguments.parts or parts:
                parts[part](stack)


def _under_load(stack: ServingServers) -> None:
    """Each in turn, again and again: what else the machine does then falls upon all of them."""
    _deploy_noop(stack)
    api = stack.settings.api_url
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.serving_apps:row_loop_app"]
    command += ["--port", str(port), "--log-level", "warning", "--no-access-log"]
    with (
        tempfile.NamedTemporaryFile(suffix=".log") as log,
        running(command, f"http://127.0.0.1:{port}/openapi.json", Path(log.name)),
    ):
        targets = {
            "no-op FastAPI on Ray Serve": ("GET", f"{api}/noop/", ""),
            "GET /v1/forecasts/btc_usdt, admin": ("GET", f"{api}/v1/forecasts/btc_usdt", stack.admin_token),
            "the same, every call a 304": ("GET", f"{api}/v1/forecasts/btc_usdt", stack.admin_token),
            "first version's way": ("PUT", f"http://127.0.0.1:{port}/predict", ""),
        }
        loads: dict[str, list[Load]] = {name: [] for name in targets}
        for _ in range(ROUNDS):
            for name, (method, url, token) in targets.items():
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                if "304" in name:
                    headers["If-None-Match"] = httpx.get(url, headers=headers).headers["ETag"]
                loads[name].append(_wrk(method, url, headers))
                print(f"{name:40} {loads[name][-1]}", flush=True)
    noop, ours, _, first = loads.values()
    for what, others in (("the empty app's rate", noop), ("the first version's rate", first)):
        times = sorted(mine.rate / other.rate for mine, other in zip(ours, others, strict=True))
        print(f"counted forecasts, times {what}: median {median(times):.2f}, {times[0]:.2f} to {times[-1]:.2f}")


def _deploy_noop(stack: ServingServers) -> None:
    settings = stack.settings
    pairs = pairs_table.active(stack.database_url)
    config = desired_config(settings, pairs, models_to_serve(settings, pairs))
    # With Serve's line a request in its log, because ours has one too.
    log = {"encoding": "JSON", "enable_access_log": True}
    deployment = {"name": "noop", "ray_actor_options": {"num_cpus": 0}, "max_ongoing_requests": 1000}
    deployment["logging_config"] = log
    noop = {
        "name": "noop",
        "route_prefix": "/noop",
        "import_path": "benchmarks.serving_apps:noop",
        "deployments": [deployment],
    }
    config["applications"].append(noop)
    put_config(stack, config)
    while not _answers(f"{settings.api_url}/noop/"):
        time.sleep(0.2)


def put_config(stack: ServingServers, config: dict[str, Any]) -> None:
    url = f"{stack.settings.ray_url}/api/serve/applications/"
    httpx.put(url, json=config, headers=ray_headers(stack), timeout=60).raise_for_status()


def _answers(url: str) -> bool:
    return httpx.get(url, timeout=30).is_success


@dataclass(frozen=True)
class Load:
    rate: float  # requests a second
    p50: str
    p99: str
    failed: dict[str, int]  # by status

    def __str__(self) -> str:
        tail = f"   {self.failed}" if self.failed else ""
        return f"{self.rate:8.0f} requests/s   p50 {self.p50:>9}   p99 {self.p99:>9}{tail}"


def _wrk(method: str, url: str, headers: dict[str, str]) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = '{method}'\n{_TELL_FAILURES}")
        script.flush()
        command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", "--latency", "-s", script.name]
        command += [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        report = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    p50, p99 = (re.search(rf"^\s+{share}%\s+(\S+)\s*$", report, re.MULTILINE) for share in (50, 99))
    assert rate, report
    assert p50, report
    assert p99, report
    failed = Counter(re.findall(r"^([45]\d\d)\t.*$", report, re.MULTILINE))
    return Load(float(rate[1]), p50[1], p99[1], dict(failed))


def _under_fire(stack: ServingServers) -> None:
    """Requests without pause from 8 clients, while models are swapped and replicas are killed; two gateways."""
    settings = stack.settings.model_copy(update={"gateway_replicas": 2})
    apply(settings)
    stop = threading.Event()
    counts: Counter[str] = Counter()
    callers = [threading.Thread(target=_call_until, args=(stack, stop, counts)) for _ in range(8)]
    for caller in callers:
        caller.start()
    swap_s = []
    for number in range(SWAPS):
        wider = tuple((1 + number % 5) * value for value in LOG_RETURNS)
        stack.promote("btc_usdt", tiny_model("btc_usdt", log_returns=wider))
        started = time.monotonic()
        apply(settings)
        swap_s.append(time.monotonic() - started)
        if number in KILLS:
            os.kill(replica_pids(stack, KILLS[number])[0], signal.SIGKILL)
    while counts.total() < REQUESTS:
        time.sleep(0.5)
    stop.set()
    for caller in callers:
        caller.join()
    swap_s.sort()
    print(f"{SWAPS} swaps, {len(KILLS)} replicas killed, {counts.total()} requests: {dict(counts)}")
    print(f"a swap, from apply() to serving: median {swap_s[len(swap_s) // 2]:.2f} s, longest {swap_s[-1]:.2f} s")


def _call_until(stack: ServingServers, stop: threading.Event, counts: Counter[str]) -> None:
    headers = {"Authorization": f"Bearer {stack.admin_token}"}
    with httpx.Client(base_url=stack.settings.api_url, headers=headers, timeout=60) as api:
        while not stop.is_set():
            try:
                answer = api.get("/v1/forecasts/btc_usdt")
                declared = " with Retry-After" if "Retry-After" in answer.headers else ""
                counts[f"{answer.status_code}{declared}"] += 1
            except httpx.HTTPError as error:
                counts[type(error).__name__] += 1


def _from_zero(stack: ServingServers) -> None:
    """The first call of a pair that sleeps; the gateway has no answer of it in memory."""
    settings = stack.settings.model_copy(update={"idle_replica_s": 1})
    pairs_table.put(stack.database_url, "eth_usdt", min_replicas=0)
    apply(settings)
    headers = {"Authorization": f"Bearer {stack.admin_token}"}
    woken_s = []
    with httpx.Client(base_url=settings.api_url, headers=headers, timeout=60) as api:
        for _ in range(WAKINGS):
            while replica_pids(stack, "eth_usdt_1h"):
                time.sleep(0.5)
            started = time.monotonic()
            api.get("/v1/candles/eth_usdt").raise_for_status()
            woken_s.append(time.monotonic() - started)
    woken_s.sort()
    print(f"woken from zero: median {woken_s[WAKINGS // 2]:.2f} s, longest {woken_s[-1]:.2f} s")


if __name__ == "__main__":
    main()
