"""Fine-tuning many pairs as one stack, beside one by one: what it gains on a GPU, and costs without one.

python -m benchmarks.training_together [--candles DIR] [--pairs 32]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.candles import add_candles_option, read_candles
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.forecasting.pipeline import fit_foundation, prepare, train_prepared, train_together
from make_us_rich.forecasting.training_config import TrainingConfig

_ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description="training many pairs at once, beside one by one")
    add_candles_option(parser)
    parser.add_argument("--pairs", type=int, default=32, help="how many; the folder's, again and again")
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    markets = read_candles(args.candles)
    bitcoin, config = markets[str(BITCOIN)], TrainingConfig()
    as_of_ms = int(bitcoin.open_time_ms[-1]) + HOUR_MS
    shared = fit_foundation(
        {str(BITCOIN): bitcoin}, bitcoin, interval=Interval.H1, as_of_ms=as_of_ms, config=config, device=device
    )
    known = [
        prepare(candles, bitcoin, interval=Interval.H1, as_of_ms=as_of_ms, config=config)
        for candles in markets.values()
    ]
    ready = {f"{number}": item for number, item in zip(range(args.pairs), itertools.cycle(known))}
    how = {"as_of_ms": as_of_ms, "config": config, "foundation": shared.weights, "device": device}

    def one_by_one() -> None:
        for item in ready.values():
            train_prepared(item, **how)

    def together() -> None:
        if len(train_together(ready, **how)) < len(ready):
            raise SystemExit("the pairs have unlike numbers of rows: choose other candles")

    together()  # once for the device to get ready
    rounds = [(_seconds(one_by_one), _seconds(together)) for _ in range(_ROUNDS)]
    alone_s, together_s = (statistics.median(times) for times in zip(*rounds, strict=True))
    shares = [alone / both for alone, both in rounds]
    print(
        f"{len(ready)} pairs on {torch.cuda.get_device_name() if device == 'cuda' else 'one core, no GPU'}: "
        f"{alone_s:.1f} s one by one, {together_s:.1f} s together, "
        f"{statistics.median(shares):.2f} times as fast ({min(shares):.2f} to {max(shares):.2f})"
    )


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
