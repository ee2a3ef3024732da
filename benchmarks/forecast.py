"""The quality of the forecasts out of sample, compared with the baselines; with --cost, what one forecast costs.

    python -m benchmarks.forecast [--candles DIR] [--pairs btc_usdt,...] [--interval 1h] [--model lstm]
        [--from-scratch | --untrained chz_usdt,...]
    python -m benchmarks.forecast --cost [--candles DIR] [--interval 1h]

Quality: trains on the year before each of five disjoint five-week windows. Design choices were made on the five-week
windows between them (--windows choose). The reported windows were read once before the last choice, so they are not
completely untouched (see docs/explanation/forecasting.md). Other intervals have windows of their own; only the longest
volatility of 4h was chosen, on --windows choose. Shorter candles are resampled to the interval, so 15m needs a folder
of 15m or 5m candles.

Cost: features, training, fine-tuning with export and checks, and one inference, on one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import torch

from make_us_rich.core.arguments import argument, parse_pairs
from make_us_rich.core.errors import BadCandles, InputError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.documents import HORIZON_GRID
from make_us_rich.forecasting.architectures import TrainingConfig, context_length
from make_us_rich.forecasting.backtest import HORIZONS_COMPARED, WINDOW, backtest_window, forecasts_table, summarise
from make_us_rich.forecasting.features import feature_layout, sequence_features
from make_us_rich.forecasting.onnx_model import OnnxModel, candle_array
from make_us_rich.forecasting.recipe import fit, fit_foundation
from make_us_rich.forecasting.report import html_report, line, table
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_recorded, recorded_pairs

_CANDLES = Path(__file__).parents[1] / "data" / "klines-1h"
# the download of the figures in docs/explanation/forecasting.md
_COINS = "ada bnb btc chz doge eth link ltc sol xrp"
_FROM, _TO = "2020-10-15", "2023-01-01"
_ETHER = Pair("eth", "usdt")
_FEATURE_CANDLES = 8749
_INFERENCES = 2000


@dataclass(frozen=True)
class _Windows:
    """Consecutive windows of so many candles from the day `first`, and the numbers of those that are used."""

    first: str
    candles: int
    report: range = range(1, 11, 2)
    choose: range = range(0, 11, 2)

    def starts_ms(self, purpose: str, interval: Interval) -> list[int]:
        first_ms = int(datetime.fromisoformat(self.first).replace(tzinfo=UTC).timestamp() * 1000)
        numbers = self.report if purpose == "report" else self.choose
        return [first_ms + number * self.candles * interval.ms for number in numbers]


_WINDOWS = {
    Interval.M15: _Windows("2022-05-02", 672),
    Interval.H1: _Windows("2021-11-22", WINDOW),
    Interval.H4: _Windows("2021-11-22", 210),
    Interval.D1: _Windows("2021-11-22", 70, report=range(5), choose=range(5)),  # all that fit into two years of candles
}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    if args.cost:
        _measure_cost(args.candles, args.interval)
    else:
        _measure_quality(args)


def _measure_quality(args: argparse.Namespace) -> None:
    config = TrainingConfig.of(args.interval)
    pairs = list(args.pairs or ())
    candles = _read_candles(args.candles, args.interval, pairs)
    if unknown := set(args.untrained) - candles.keys():
        raise SystemExit(f"--untrained: {', '.join(sorted(unknown))} is not among the pairs: {', '.join(candles)}")
    (reference,) = _read_candles(args.candles, args.interval, [BITCOIN]).values()
    began_s = time.perf_counter()
    results = []
    windows = _WINDOWS[args.interval]
    for start_ms in windows.starts_ms(args.windows, args.interval):
        results += backtest_window(
            candles,
            reference,
            interval=args.interval,
            start_ms=start_ms,
            config=replace(config, architecture=args.model),
            window=windows.candles,
            foundation=not args.from_scratch,
            untrained=args.untrained,
            horizons=args.horizons,
            on_result=lambda result: print(line(result), flush=True),
        )
    print(f"\n{table(summarise(results))}\n\n{time.perf_counter() - began_s:.0f} s in all")
    if args.out:
        pq.write_table(forecasts_table(results, candles, args.interval, args.model), args.out)
    if args.report:
        args.report.write_text(html_report(results, candles, args.interval))


def _measure_cost(folder: Path, interval: Interval) -> None:
    bitcoin, ether = _read_candles(folder, interval, [BITCOIN, _ETHER]).values()
    as_of_ms = int(ether.open_time_ms[-1]) + interval.ms
    config, layout = TrainingConfig.of(interval), feature_layout(interval)

    array = torch.from_numpy(candle_array(ether[-_FEATURE_CANDLES - layout.warmup :]))[None]
    features_s = _cpu_seconds(lambda: sequence_features(array, array, layout), 20)
    print(f"features of {array.shape[1] - layout.warmup} candles: {features_s * 1e3:.1f} ms")

    foundation = fit_foundation({"btc_usdt": bitcoin, "eth_usdt": ether}, bitcoin, TrainingTask(as_of_ms, config))
    for name, weights in (("from scratch", None), ("fine-tuned", foundation.weights)):

        def train(weights: bytes | None = weights) -> None:
            fit(ether, bitcoin, pair="eth_usdt", task=TrainingTask(as_of_ms, config), foundation=weights)

        print(f"a pair {name}, with export and checks: {_cpu_seconds(train, 3):.2f} s of one core")

    newest = slice(-context_length(config), None)  # as serving keeps them
    inputs = {"candles": candle_array(ether[newest])[None], "reference": candle_array(bitcoin[newest])[None]}
    model = OnnxModel.load(foundation.onnx, f"foundation_{interval}")
    bare_s, served_s = _alternating_seconds(
        lambda: model.session.run(["quantiles"], inputs), lambda: model.quantiles(ether[newest], bitcoin[newest])
    )
    print(
        f"one inference: {bare_s * 1e3:.3f} ms in bare ONNX Runtime, {served_s * 1e3:.3f} ms from candles to checked "
        f"quantiles, {served_s / bare_s:.2f} times as long (p50); graph of {len(foundation.onnx) / 1024:.0f} KiB"
    )


def _read_candles(folder: Path, interval: Interval, pairs: Collection[Pair] = ()) -> dict[str, Candles]:
    """Read candles by pair, of all pairs in the folder by default.

    Exits with the command that downloads them when some are missing.
    """
    wanted = pairs or recorded_pairs(folder)
    try:
        if wanted:
            return read_recorded(folder, wanted, interval)
        missing = f"{folder} has no klines"
    except BadCandles as error:
        raise SystemExit(str(error)) from None
    except InputError as error:
        missing = str(error).partition(":")[0]
    names = ",".join(map(str, wanted)) or ",".join(f"{coin}_usdt" for coin in _COINS.split())
    raise SystemExit(
        f"{missing}. Download them, and run this again:\n\n"
        f"    .venv/bin/mkrich candles download --pairs {names} --from {_FROM} --to {_TO} --out {folder}"
    )


def _horizons(text: str) -> tuple[int, ...]:
    horizons = tuple(map(int, text.split(",")))
    if not set(horizons) <= set(HORIZON_GRID):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(map(str, HORIZON_GRID))}")
    return horizons


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
        help="folder of klines; by default the variable CANDLES, else data/klines-1h of the checkout",
    )
    parser.add_argument("--cost", action="store_true", help="measure what a forecast costs instead of its quality")
    parser.add_argument("--pairs", type=argument(parse_pairs), help="comma separated; by default every file")
    parser.add_argument("--model", default="lstm", help="architecture")
    foundation = parser.add_mutually_exclusive_group()
    foundation.add_argument("--from-scratch", action="store_true", help="no foundation model to fine-tune")
    foundation.add_argument(
        "--untrained",
        type=argument(parse_pairs),
        default=(),
        help="score these pairs alone: the foundation learns from the others, and is only adapted to these",
    )
    parser.add_argument(
        "--horizons",
        type=_horizons,
        default=HORIZONS_COMPARED,
        metavar="1,4,24",
        help=f"candles ahead to compare at, of {', '.join(map(str, HORIZON_GRID))}",
    )
    parser.add_argument("--interval", type=Interval, choices=_WINDOWS, default=Interval.H1)
    parser.add_argument("--windows", choices=("report", "choose"), default="report")
    parser.add_argument("--out", type=Path, help="parquet file of every forecast")
    parser.add_argument("--report", type=Path, help="HTML file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
