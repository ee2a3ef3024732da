"""How good the forecasts are, out of sample and beside the baselines; and what they cost.

    python -m benchmarks.forecast [--candles DIR] [--pairs btc_usdt,...] [--model lstm] [--from-nothing]

Trains on the year before each of five disjoint five-week windows. Choices were made on the five-week windows between
them. The reported windows were read once before the last choice, so they are not wholly untouched (see
docs/explanation/forecasting.md).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import torch

from benchmarks.candles import add_candles_option, read_candles
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.forecasting.backtest import WINDOW, backtest, forecasts_table, summarise
from make_us_rich.forecasting.report import html_report, line, table
from make_us_rich.forecasting.training_config import TrainingConfig

_FIRST = datetime(2021, 11, 22, tzinfo=UTC)
_WINDOWS = {"report": range(1, 11, 2), "choose": range(0, 11, 2)}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    pairs = [Pair.parse(text) for text in args.pairs.split(",")] if args.pairs else []
    markets = read_candles(args.candles, pairs)
    (reference,) = read_candles(args.candles, [BITCOIN]).values()
    began = time.perf_counter()
    results = backtest(
        markets,
        reference,
        interval=Interval.H1,
        starts_ms=window_starts(args.windows),
        config=replace(TrainingConfig(), architecture=args.model),
        shared=not args.from_nothing,
        on_result=lambda result: print(line(result), flush=True),
    )
    print(f"\n{table(summarise(results))}\n\n{time.perf_counter() - began:.0f} s in all")
    if args.out:
        pq.write_table(forecasts_table(results, markets, Interval.H1, args.model), args.out)
    if args.report:
        args.report.write_text(html_report(results, markets, Interval.H1))


def window_starts(name: str) -> list[int]:
    """First open times of the windows of `report` or `choose`."""
    first_ms = int(_FIRST.timestamp() * 1000)
    return [first_ms + number * WINDOW * HOUR_MS for number in _WINDOWS[name]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="forecasts beside the baselines, walk-forward")
    add_candles_option(parser)
    parser.add_argument("--pairs", help="comma separated; by default every file of the folder")
    parser.add_argument("--model", default="lstm")
    parser.add_argument("--from-nothing", action="store_true", help="no shared model to start from")
    parser.add_argument("--windows", choices=_WINDOWS, default="report")
    parser.add_argument("--out", type=Path, help="parquet file of every forecast")
    parser.add_argument("--report", type=Path, help="HTML file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
