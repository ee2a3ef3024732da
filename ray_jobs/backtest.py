"""Walk-forward backtest on a Ray cluster, one Ray task for each window.

    python -m ray_jobs.backtest --pairs btc_usdt,eth_usdt --from 2022-01-01 --to 2022-06-30 --every 5w --out FILE

Candles come from S3, or from --candles DIR, a folder of klines such as BTCUSDT.parquet that the cluster can read. With
--interval 15m, 1h, 4h or 1d shorter candles are resampled.
Writes every forecast to FILE (parquet) and a report with plots next to it (html); --upload PREFIX stores both in S3.
"""

from __future__ import annotations

import argparse
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import ray
import torch

from make_us_rich.core.arguments import argument, input_errors, parse_pairs
from make_us_rich.core.errors import InputError, NotEnoughHistory
from make_us_rich.core.interval import Interval, duration_ms, windows_between
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.core.times import from_ms, to_ms
from make_us_rich.forecasting.architectures import TrainingConfig, architecture
from make_us_rich.forecasting.backtest import WindowResult, backtest_window, forecasts_table, summarise
from make_us_rich.forecasting.report import html_report, line, table
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.market.recordings import read_recorded, recorded_pairs, resample
from make_us_rich.pipeline.ray_jobs import BACKTEST_FORECASTS, BACKTEST_REPORT
from ray_jobs.placement import find_placement

_WARM_UP_CANDLES = 2000  # before the first training sample: thirty days of features, and validation


@dataclass(frozen=True)
class Request:
    """What to backtest; `window` is in candles."""

    pairs: tuple[Pair, ...]
    interval: Interval
    starts_ms: tuple[int, ...]
    window: int
    config: TrainingConfig
    foundation: bool


def main() -> None:
    args = _arguments()
    with input_errors():
        request = _request(args)
        candles = _read_candles(args, request)
    ray.init(log_to_driver=True, logging_level=logging.WARNING)
    find_placement(1, gpu_share=0)  # raises NoPlacement on a cluster without CPUs, where tasks would wait for ever
    results = _run(request, candles)
    print(f"\n{table(summarise(results))}", flush=True)
    files = _files(results, candles, request)
    if args.upload:
        objects = ObjectStore.from_settings(get_settings())
        for name, content in files.items():
            objects.put(f"{args.upload}/{name}", content)
    if args.out:
        args.out.write_bytes(files[BACKTEST_FORECASTS])
        args.out.with_suffix(".html").write_bytes(files[BACKTEST_REPORT])


def _run(request: Request, candles: Mapping[str, Candles]) -> list[WindowResult]:
    """Run one Ray task for each window; return the results in the order of the windows."""
    shared = ray.put((request, {str(pair): candles[pair] for pair in request.pairs}, candles[BITCOIN]))
    running = {_backtest_window.remote(shared, start_ms): start_ms for start_ms in request.starts_ms}
    done: dict[int, list[WindowResult]] = {}
    while running:
        (reference,), _ = ray.wait(list(running), num_returns=1)
        done[running.pop(reference)] = ray.get(reference)
        print(f"{len(done)} of {len(request.starts_ms)} windows", flush=True)
    return [result for start_ms in request.starts_ms for result in done[start_ms]]


@ray.remote(num_cpus=1, max_retries=2)
def _backtest_window(shared: tuple[Request, dict[str, Candles], Candles], start_ms: int) -> list[WindowResult]:
    torch.set_num_threads(1)
    request, candles, reference = shared
    try:
        return backtest_window(
            candles,
            reference,
            interval=request.interval,
            start_ms=start_ms,
            config=request.config,
            window=request.window,
            foundation=request.foundation,
            on_result=lambda result: print(line(result), flush=True),
        )
    except NotEnoughHistory as error:
        print(f"{from_ms(start_ms):%Y-%m-%d}: left out: {error}", flush=True)
        return []


def _files(results: list[WindowResult], candles: Mapping[str, Candles], request: Request) -> dict[str, bytes]:
    forecasts = io.BytesIO()
    pq.write_table(forecasts_table(results, candles, request.interval, request.config.architecture), forecasts)
    report = html_report(results, candles, request.interval)
    return {BACKTEST_FORECASTS: forecasts.getvalue(), BACKTEST_REPORT: report.encode()}


def _read_candles(args: argparse.Namespace, request: Request) -> dict[str, Candles]:
    pairs = {*request.pairs, BITCOIN}
    if args.candles:
        return read_recorded(args.candles, pairs, request.interval)
    settings = get_settings()
    store = CandleStore.from_settings(settings)
    step = request.interval.ms
    start_ms = request.starts_ms[0] - (request.config.training + _WARM_UP_CANDLES) * step
    end_ms = request.starts_ms[-1] + request.window * step
    stored = request.interval if request.interval in settings.intervals else settings.default_interval
    if step % stored.ms:
        raise InputError(f"the store has candles of {stored}: name a folder of {request.interval}", field="candles")
    return {
        pair: resample(store.read(settings.market, pair, stored, start_ms, end_ms), stored, request.interval)
        for pair in pairs
    }


def _request(args: argparse.Namespace) -> Request:
    architecture(args.model)  # raises InputError for an unknown name
    config = TrainingConfig.of(args.interval, args.model)  # raises InputError for an interval that is not trained
    every_ms: int = args.every
    if args.pairs:
        chosen = list(args.pairs)
    elif args.candles:
        chosen = recorded_pairs(args.candles)
    else:
        raise InputError("name the pairs, such as btc_usdt,eth_usdt", field="pairs")
    return Request(
        pairs=tuple(dict.fromkeys(chosen)),
        interval=args.interval,
        starts_ms=tuple(windows_between(to_ms(args.start), to_ms(args.end), every_ms, args.interval)),
        window=every_ms // args.interval.ms,
        config=config,
        foundation=not args.from_scratch and args.model != "level_mse",
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="compare forecasts with the baselines, walk-forward")
    parser.add_argument("--pairs", type=argument(parse_pairs), help="comma separated; by default all of --candles")
    parser.add_argument("--from", dest="start", type=datetime.fromisoformat, required=True)
    parser.add_argument("--to", dest="end", type=datetime.fromisoformat, required=True)
    parser.add_argument(
        "--every", default="5w", type=argument(duration_ms), help="length of a window, such as 5w or 840h"
    )
    parser.add_argument("--interval", default="1h", type=argument(Interval.parse), help="15m, 1h, 4h or 1d")
    parser.add_argument("--model", default="lstm", help="architecture")
    parser.add_argument(
        "--from-scratch", "--from-nothing", action="store_true", help="no foundation model to fine-tune"
    )
    parser.add_argument("--candles", type=Path, help="folder of klines")
    parser.add_argument("--out", type=Path, help="parquet file of every forecast")
    parser.add_argument("--upload", help="prefix in S3 for the same files")
    return parser.parse_args()


if __name__ == "__main__":
    main()
