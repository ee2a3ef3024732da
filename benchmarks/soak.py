"""The whole stack for hours under load: training, swaps and retention at once, while its resources are sampled.

    .venv/bin/python -m benchmarks.soak [--minutes 360] [--out DIR]

Every DAG runs on its schedule. Beside that, one run of train_pairs after the other trains all pairs as of the next hour
of the last six days of the simulated market, and the new models are promoted by hand: as many swaps an hour as runs fit
into it. After every few runs, housekeeping deletes all but three versions of each model. A client calls every endpoint
of the pairs. A second one computes forecasts anew, from the exchange's candles and the registry's model, and compares
them with the answers. Writes soak.csv and soak.png at its end, also when it is interrupted. Fails if a forecast
was wrong, or if an answer had a status other than 200 and other than 503 with Retry-After.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.orchestration import NAMED, count_objects, finish
from benchmarks.stack import api_client, settings_of, temporary_stack_config
from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.times import current_ms
from make_us_rich.database.pool import Database
from make_us_rich.documents import Forecast
from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.environment import ADMIN
from make_us_rich.embedded.lifecycle import Stack
from make_us_rich.market.window import LiveWindow, shared_bitcoin
from make_us_rich.pipeline.airflow import Airflow
from make_us_rich.pipeline.deployment import apply
from make_us_rich.registry.client import Registry
from make_us_rich.registry.promotion import promote_manually
from serve_app.replica.forecast import ComputedForecast
from serve_app.replica.models import LoadedModel, ModelCache

PAIRS = tuple(Pair.parse(name) for name in (*NAMED, "ltc_usdt", "ada_usdt", "doge_usdt"))
POOLED = PAIRS[len(NAMED) :]
_CALLS_PER_S = 20
_CHECK_EVERY_S, _SAMPLE_EVERY_S = 3.0, 20.0
_RUNS_PER_CLEANING = 4
_FRESH_AFTER_CLOSE_S = 30.0
_HOURS = 24 * 6
_GROUPS = ("memory", "files", "processes", "stores")


class Soak:
    """The threads of a soak share it; each counts what it sees."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.settings = settings_of(stack)
        self.ended = threading.Event()
        self.began_s = time.monotonic()
        self.answers: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()
        self.samples: list[dict[str, float]] = []

    def call(self) -> None:
        """Call every endpoint of every pair in turn."""
        paths = [
            path.format(pair)
            for pair in PAIRS
            for path in (
                "/v1/forecasts/{}",
                "/v1/forecasts/{}/history?limit=24",
                "/v1/candles/{}?limit=100",
                "/v1/models/{}",
                "/v1/forecasts/{}?horizons=1,8,24",
            )
        ]
        with api_client(self.stack) as api:
            for path in cycle([*paths, "/v1/pairs", "/readyz"]):
                if self.ended.wait(1 / _CALLS_PER_S):
                    return
                try:
                    answer = api.get(path)
                except httpx.HTTPError as error:
                    self.answers[f"{type(error).__name__} of {path}"] += 1
                    continue
                refused = answer.status_code == 503 and "Retry-After" in answer.headers
                known = answer.status_code == 200 or refused
                what = "503 with Retry-After" if refused else str(answer.status_code)
                self.answers[what if known else f"{what} of {path}"] += 1

    def check(self) -> None:
        """Compute a pair's forecast anew and compare it with the API's answer."""
        cache, models = ModelCache(8), dict[tuple[str, int], LoadedModel]()
        windows = {
            pair: LiveWindow(Series(pair, Interval.H1), self.settings, shared_bitcoin(Interval.H1, self.settings))
            for pair in PAIRS
        }
        with api_client(self.stack) as api, Registry(self.settings) as registry:
            for pair in cycle(PAIRS):
                if self.ended.wait(_CHECK_EVERY_S):
                    return
                try:
                    self.checks[self._compare(api, registry, pair, windows[pair], models, cache)] += 1
                except (httpx.HTTPError, MakeUsRichError) as error:
                    self.checks[f"not compared: {type(error).__name__}"] += 1

    def _compare(
        self,
        api: httpx.Client,
        registry: Registry,
        pair: Pair,
        market: LiveWindow,
        models: dict[tuple[str, int], LoadedModel],
        cache: ModelCache,
    ) -> str:
        served = Forecast.model_validate_json(api.get(f"/v1/forecasts/{pair}").raise_for_status().content)
        now_ms = current_ms()
        close_ms = Interval.H1.last_close_ms(now_ms)
        if served.as_of_ms != close_ms:
            late_s = (now_ms - close_ms) / 1000
            return "old" if late_s < _FRESH_AFTER_CLOSE_S else f"WRONG: {pair} is {late_s:.0f} s late"
        key = served.model.name, served.model.version
        if key not in models:
            version = registry.get(*key)
            models[key] = LoadedModel(version, registry.download(version), cache)
        market.refresh(now_ms)
        if market.window is None or market.window.as_of_ms != served.as_of_ms:
            return "not compared: the candle closed meanwhile"
        expected = ComputedForecast.compute(pair, models[key], market.window)
        ours = np.array([each.quantiles.prices() for each in expected.horizons])
        theirs = np.array([each.quantiles.prices() for each in served.horizons])
        same = ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-5)
        return "equal" if same else f"WRONG: {pair}, version {key[1]} of {key[0]}"

    def train(self, minutes: float) -> None:
        """Run train_pairs as of one hour of the market after the other, and housekeeping now and then."""
        newest = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        with Airflow(self.stack.config.url("airflow"), ADMIN, self.stack.secrets.admin_password) as airflow:
            airflow.pause_all(False)
            for number in range(_HOURS):
                if time.monotonic() - self.began_s > minutes * 60:
                    return
                as_of = newest - timedelta(hours=_HOURS - number)
                self._run(airflow, "train_pairs", {"pairs": PAIRS, "as_of": as_of.isoformat()})
                self._swap()
                if number % _RUNS_PER_CLEANING == _RUNS_PER_CLEANING - 1:
                    self._run(airflow, "housekeeping", {"dry_run": False, "keep_versions": 3, "keep_run_days": 1})

    def _swap(self) -> None:
        """Make the newest version of each model the champion, and serve it."""
        with Registry(self.settings) as registry, Database.from_settings(self.settings) as database:
            for pair in PAIRS:
                name = Series(pair, Interval.H1).name
                (newest,) = registry.versions(name, 1)
                promote_manually(registry, database, name, newest.version, by="the soak")
        apply(self.settings)

    def _run(self, airflow: Airflow, dag_id: str, form: Mapping[str, object]) -> None:
        run_id = airflow.trigger(dag_id, form)
        self.runs[f"{dag_id}: {finish(airflow, dag_id, run_id)}"] += 1
        minute = (time.monotonic() - self.began_s) / 60
        print(f"{minute:5.0f} min  {dict(self.runs)}  {dict(self.checks)}  {dict(self.answers)}", flush=True)

    def sample(self) -> None:
        """Sample the resources until the soak ends."""
        with Database.from_settings(self.settings) as database:
            while not self.ended.wait(_SAMPLE_EVERY_S):
                self.samples.append(self._sample(database))

    def _sample(self, database: Database) -> dict[str, float]:
        """Return what the whole stack holds now, by group and program. memory and disk: MiB. files: with sockets."""
        config = self.stack.config
        with database.transaction() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            ((connections,),) = cursor.fetchall()
        # it fails where a file is deleted meanwhile, and prints the size all the same
        disk = subprocess.run(["du", "-sm", config.state], capture_output=True, text=True, check=False)
        groups: dict[str, Mapping[str, float]] = {
            "memory": {name: size / 2**20 for name, size in lifecycle.memory_bytes(config).items()},
            "files": lifecycle.measure(config, lambda process: int(process.num_fds())),
            "processes": lifecycle.measure(config, lambda _: 1),
            "stores": {
                "connections": connections,
                "disk": int(disk.stdout.split()[0]),
                "objects": count_objects(self.settings),
            },
        }
        found = {f"{group}: {name}": value for group, values in groups.items() for name, value in values.items()}
        return {"minute": (time.monotonic() - self.began_s) / 60} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=360, help="real time")
    parser.add_argument("--out", type=Path, default=Path("soak"), help="folder of soak.csv and soak.png")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = {"MUR_PAIRS": ",".join(PAIRS), "MUR_POOLED_PAIRS": ",".join(POOLED), "MUR_HISTORY_CANDLES": "3000"}
    with temporary_stack_config(settings) as config:
        lifecycle.up(config)
        soak = Soak(lifecycle.open_stack(config))
        with ThreadPoolExecutor() as threads:
            working = [threads.submit(work) for work in (soak.call, soak.check, soak.sample)]
            try:
                soak.train(arguments.minutes)
            finally:
                soak.ended.set()
                samples = pd.DataFrame(soak.samples).fillna(0)  # 0 where a program was not running
                _write(samples, arguments.out)
        for each in working:
            each.result()
    _print(soak, samples)
    bad = [what for what in (*soak.checks, *soak.answers) if what.startswith("WRONG") or " of /" in what]
    if bad:
        sys.exit(f"not as promised: {', '.join(bad)}")


def _write(samples: pd.DataFrame, folder: Path) -> None:
    samples.to_csv(folder / "soak.csv", index=False)
    figure = Figure(figsize=(14, 9), layout="constrained")
    for axes, group in zip(figure.subplots(2, 2).flat, _GROUPS, strict=True):
        for name in samples.filter(like=f"{group}: "):
            axes.plot(samples["minute"], samples[name], label=name.removeprefix(f"{group}: "))
        axes.set(title=group, xlabel="minutes", yscale="log" if group == "stores" else "linear", ylim=(1, None))
        axes.legend(fontsize="x-small")
    figure.savefig(folder / "soak.png")


def _print(soak: Soak, samples: pd.DataFrame) -> None:
    """Print the lowest value of the second and of the last quarter of the soak: what stays between two runs."""
    for group in _GROUPS[:-1]:
        samples[f"{group}: all"] = samples.filter(like=f"{group}: ").sum(axis=1)
    quarter = max(1, len(samples) // 4)
    second, last = samples[quarter : 2 * quarter].min(), samples[-quarter:].min()
    print("\n| | second quarter | last quarter |\n|---|---|---|")
    for name in sorted(samples.columns.drop("minute")):
        print(f"| {name} | {second[name]:,.0f} | {last[name]:,.0f} |")
    print(f"\nruns: {dict(soak.runs)}\nanswers: {dict(soak.answers)}\nforecasts compared: {dict(soak.checks)}")


if __name__ == "__main__":
    main()
