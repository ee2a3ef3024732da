"""The quality of the forecasts out of sample, compared with the baselines; with --cost, what one forecast costs.

    python -m benchmarks.forecast [--candles DIR] [--pairs btc_usdt,...] [--model lstm] [--from-scratch]
    python -m benchmarks.forecast --cost [--candles DIR]

Quality: trains on the year before each of five disjoint five-week windows. Design choices were made on the five-week
windows between them (--windows choose). The reported windows were read once before the last choice, so they are not
completely untouched (see docs/explanation/forecasting.md).

Cost: features, training, fine-tuning with export and checks, and one inference, on one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import torch

from make_us_rich.core.errors import InputError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.backtest import WINDOW, backtest_window, forecasts_table, summarise
from make_us_rich.forecasting.features import WARMUP, sequence_features
from make_us_rich.forecasting.onnx_model import OnnxModel, candle_array
from make_us_rich.forecasting.pipeline import fit, fit_foundation
from make_us_rich.forecasting.report import html_report, line, table
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_recorded, recorded_pairs

_CANDLES = Path(__file__).parents[1] / "data" / "klines-1h"
# the download of the figures in docs/explanation/forecasting.md
_COINS = "ada bnb btc chz doge eth link ltc sol xrp"
_FROM, _TO = "2020-10-15", "2023-01-01"
_FIRST_MS = int(datetime(2021, 11, 22, tzinfo=UTC).timestamp() * 1000)
_WINDOWS = {"report": range(1, 11, 2), "choose": range(0, 11, 2)}
_ETHER = Pair("eth", "usdt")
_FEATURE_CANDLES = 8749
_INFERENCES = 2000


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    if args.cost:
        _measure_cost(args.candles)
    else:
        _measure_quality(args)


def _measure_quality(args: argparse.Namespace) -> None:
    pairs = [Pair.parse(text) for text in args.pairs.split(",")] if args.pairs else []
    candles = _read_candles(args.candles, pairs)
    (reference,) = _read_candles(args.candles, [BITCOIN]).values()
    began_s = time.perf_counter()
    results = []
    for number in _WINDOWS[args.windows]:
        results += backtest_window(
            candles,
            reference,
            interval=Interval.H1,
            start_ms=_FIRST_MS + number * WINDOW * HOUR_MS,
            config=replace(TrainingConfig(), architecture=args.model),
            foundation=not args.from_scratch,
            on_result=lambda result: print(line(result), flush=True),
        )
    print(f"\n{table(summarise(results))}\n\n{time.perf_counter() - began_s:.0f} s in all")
    if args.out:
        pq.write_table(forecasts_table(results, candles, Interval.H1, args.model), args.out)
    if args.report:
        args.report.write_text(html_report(results, candles, Interval.H1))


def _measure_cost(folder: Path) -> None:
    bitcoin, ether = _read_candles(folder, [BITCOIN, _ETHER]).values()
    as_of_ms = int(ether.open_time_ms[-1]) + HOUR_MS
    config = TrainingConfig()

    array = torch.from_numpy(candle_array(ether[-_FEATURE_CANDLES - WARMUP :]))[None]
    features_s = _cpu_seconds(lambda: sequence_features(array, array), 20)
    print(f"features of {_FEATURE_CANDLES} candles: {features_s * 1e3:.1f} ms")

    foundation = fit_foundation(
        {"btc_usdt": bitcoin, "eth_usdt": ether}, bitcoin, interval=Interval.H1, as_of_ms=as_of_ms, config=config
    )
    for name, weights in (("from scratch", None), ("fine-tuned", foundation.weights)):

        def train(weights: bytes | None = weights) -> None:
            fit(
                ether,
                bitcoin,
                pair="eth_usdt",
                interval=Interval.H1,
                as_of_ms=as_of_ms,
                config=config,
                foundation=weights,
            )

        print(f"a pair {name}, with export and checks: {_cpu_seconds(train, 3):.2f} s of one core")

    model = OnnxModel.load(foundation.onnx, "foundation_1h")
    bare_s, served_s = _alternating_seconds(
        lambda: model.session.run(["quantiles"], foundation.input_example), lambda: model.quantiles(ether, bitcoin)
    )
    print(
        f"one inference: {bare_s * 1e3:.3f} ms in bare ONNX Runtime, {served_s * 1e3:.3f} ms from candles to checked "
        f"quantiles, {served_s / bare_s:.2f} times as long (p50); graph of {len(foundation.onnx) / 1024:.0f} KiB"
    )


def _read_candles(folder: Path, pairs: Collection[Pair] = ()) -> dict[str, Candles]:
    """Read hourly candles by pair, of all pairs in the folder by default.

    Exits with the command that downloads them when some are missing.
    """
    wanted = pairs or recorded_pairs(folder)
    try:
        if wanted:
            return read_recorded(folder, wanted, Interval.H1)
        missing = f"{folder} has no klines"
    except InputError as error:
        missing = str(error).partition(":")[0]
    names = ",".join(map(str, wanted)) or ",".join(f"{coin}_usdt" for coin in _COINS.split())
    raise SystemExit(
        f"{missing}. Download them, and run this again:\n\n"
        f"    .venv/bin/mkrich candles download --pairs {names} --from {_FROM} --to {_TO} --out {folder}"
    )


def _cpu_seconds(work: Callable[[], object], times: int) -> float:
    """Return the median CPU time, which other processes of a shared machine do not change."""
    seconds = []
    for _ in range(times):
        began_s = time.process_time()
        work()
        seconds.append(time.process_time() - began_s)
    return statistics.median(seconds)


def _alternating_seconds(*works: Callable[[], object]) -> list[float]:
    """Return the median wall time of each, measured in turns, so that disturbances affect all alike."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(_INFERENCES):
        for spent, work in zip(seconds, works, strict=True):
            began_s = time.perf_counter()
            work()
            spent.append(time.perf_counter() - began_s)
    return [statistics.median(spent) for spent in seconds]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="quality of the forecasts, compared with the baselines; or their cost")
    parser.add_argument(
        "--candles",
        type=Path,
        default=Path(os.environ.get("CANDLES") or _CANDLES),
        help="folder of hourly klines; by default the variable CANDLES, else data/klines-1h of the checkout",
    )
    parser.add_argument("--cost", action="store_true", help="measure what a forecast costs instead of its quality")
    parser.add_argument("--pairs", help="comma separated; by default every file of the folder")
    parser.add_argument("--model", default="lstm", help="architecture")
    parser.add_argument("--from-scratch", action="store_true", help="no foundation model to fine-tune")
    parser.add_argument("--windows", choices=_WINDOWS, default="report")
    parser.add_argument("--out", type=Path, help="parquet file of every forecast")
    parser.add_argument("--report", type=Path, help="HTML file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
