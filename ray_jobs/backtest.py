"""Walk-forward backtest on a Ray cluster: each window is a task of its own.

    python -m ray_jobs.backtest --pairs btc_usdt,eth_usdt --from 2022-01-01 --to 2022-06-30 --every 5w --out FILE

Candles come from S3, or from --candles DIR, a folder of klines such as BTCUSDT.parquet that the cluster can read.
Writes every forecast to FILE (parquet) and a report with plots beside it (html); --upload PREFIX puts both into S3.
"""

from __future__ import annotations

import argparse
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import ray
import torch

from make_us_rich.core.errors import InputError, NotEnoughHistory
from make_us_rich.core.interval import Interval, duration_ms, windows_between
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.forecasting.architectures import architecture
from make_us_rich.forecasting.backtest import WindowResult, backtest_window, forecasts_table, summarise
from make_us_rich.forecasting.report import html_report, line, table
from make_us_rich.forecasting.training_config import TrainingConfig
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.market.recordings import read_recorded, recorded_pairs
from ray_jobs.placement import find_placement

FORECASTS, REPORT = "forecasts.parquet", "report.html"
_WARM_UP_CANDLES = 2000  # before the first training row: thirty days of features, and validation


@dataclass(frozen=True)
class Request:
    pairs: tuple[str, ...]
    interval: Interval
    starts_ms: tuple[int, ...]
    window: int  # candles
    config: TrainingConfig
    shared: bool


def main() -> None:
    args = _arguments()
    request = _request(args)
    markets = _markets(args, request)
    ray.init(log_to_driver=True, logging_level=logging.WARNING)
    find_placement(1, gpu_share=0)  # raises NoPlacement on a cluster without CPUs, where tasks would wait for ever
    results = _run(request, markets)
    print(f"\n{table(summarise(results))}", flush=True)
    files = _files(results, markets, request)
    if args.upload:
        objects = ObjectStore.from_settings(get_settings())
        for name, content in files.items():
            objects.put(f"{args.upload}/{name}", content)
    if args.out:
        args.out.write_bytes(files[FORECASTS])
        args.out.with_suffix(".html").write_bytes(files[REPORT])


def _run(request: Request, markets: Mapping[str, Candles]) -> list[WindowResult]:
    """Windows end in any order; the results come back in theirs."""
    shared = ray.put((request, {pair: markets[pair] for pair in request.pairs}, markets[str(BITCOIN)]))
    waiting = {_window.remote(shared, start_ms): start_ms for start_ms in request.starts_ms}
    done: dict[int, list[WindowResult]] = {}
    while waiting:
        (reference,), _ = ray.wait(list(waiting), num_returns=1)
        start_ms = waiting.pop(reference)
        done[start_ms] = ray.get(reference)
        print(f"{len(done)} of {len(request.starts_ms)} windows", flush=True)
    return [result for start_ms in request.starts_ms for result in done[start_ms]]


@ray.remote(num_cpus=1, max_retries=2)
def _window(shared: tuple[Request, dict[str, Candles], Candles], start_ms: int) -> list[WindowResult]:
    torch.set_num_threads(1)
    request, markets, reference = shared
    try:
        return backtest_window(
            markets,
            reference,
            interval=request.interval,
            start_ms=start_ms,
            config=request.config,
            window=request.window,
            shared=request.shared,
            on_result=lambda result: print(line(result), flush=True),
        )
    except NotEnoughHistory as error:
        print(f"{_day(start_ms)}: left out: {error}", flush=True)
        return []


def _files(results: list[WindowResult], markets: Mapping[str, Candles], request: Request) -> dict[str, bytes]:
    forecasts = io.BytesIO()
    pq.write_table(forecasts_table(results, markets, request.interval, request.config.architecture), forecasts)
    report = html_report(results, markets, request.interval).encode()
    return {FORECASTS: forecasts.getvalue(), REPORT: report}


def _markets(args: argparse.Namespace, request: Request) -> dict[str, Candles]:
    pairs = {*map(Pair.parse, request.pairs), BITCOIN}
    if args.candles:
        return read_recorded(args.candles, pairs, request.interval)
    settings = get_settings()
    store = CandleStore.from_settings(settings)
    step = request.interval.ms
    start_ms = request.starts_ms[0] - (request.config.training + _WARM_UP_CANDLES) * step
    end_ms = request.starts_ms[-1] + request.window * step
    return {str(pair): store.read(settings.market, pair, request.interval, start_ms, end_ms) for pair in pairs}


def _request(args: argparse.Namespace) -> Request:
    architecture(args.model)
    every_ms = duration_ms(args.every)
    if args.pairs:
        chosen = [Pair.parse(text) for text in args.pairs.split(",")]
    elif args.candles:
        chosen = recorded_pairs(args.candles)
    else:
        raise InputError("name the pairs, such as btc_usdt,eth_usdt", field="pairs")
    return Request(
        pairs=tuple(map(str, dict.fromkeys(chosen))),
        interval=args.interval,
        starts_ms=tuple(windows_between(_ms(args.start), _ms(args.end), every_ms, args.interval)),
        window=every_ms // args.interval.ms,
        config=replace(TrainingConfig(), architecture=args.model),
        shared=not args.from_nothing and args.model != "level_mse",
    )


def _ms(day: datetime) -> int:
    return int(day.replace(tzinfo=day.tzinfo or UTC).timestamp() * 1000)


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="forecasts beside the baselines, walk-forward")
    parser.add_argument("--pairs", help="comma separated; by default all of --candles")
    parser.add_argument("--from", dest="start", type=datetime.fromisoformat, required=True)
    parser.add_argument("--to", dest="end", type=datetime.fromisoformat, required=True)
    parser.add_argument("--every", default="5w", help="length of a window, such as 5w, 35d or 840h")
    parser.add_argument("--interval", default="1h", type=Interval.parse_trained, help="only 1h is supported")
    parser.add_argument("--model", default="lstm", help="architecture")
    parser.add_argument("--from-nothing", action="store_true", help="no shared model to start from")
    parser.add_argument("--candles", type=Path, help="folder of klines")
    parser.add_argument("--out", type=Path, help="parquet file of every forecast")
    parser.add_argument("--upload", help="prefix in S3 for the same files")
    return parser.parse_args()


if __name__ == "__main__":
    main()
