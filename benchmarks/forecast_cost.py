"""What a forecast costs: features, training, fine-tuning with export and checks, one inference. One thread.

python -m benchmarks.forecast_cost [--candles DIR]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.candles import add_candles_option, read_candles
from benchmarks.row_loop import features_at
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.forecasting.dataset import columns
from make_us_rich.forecasting.features import WARMUP, sequence_features
from make_us_rich.forecasting.onnx_model import OnnxModel
from make_us_rich.forecasting.pipeline import fit, fit_foundation
from make_us_rich.forecasting.training_config import TrainingConfig

ETHER = Pair("eth", "usdt")
_ROWS = 8749
_CALLS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description="seconds a forecast costs")
    add_candles_option(parser)
    folder = parser.parse_args().candles
    torch.set_num_threads(1)
    bitcoin, ether = read_candles(folder, [BITCOIN, ETHER]).values()
    as_of_ms = int(ether.open_time_ms[-1]) + HOUR_MS
    config = TrainingConfig()

    rows = columns(ether[-_ROWS - WARMUP :])
    grid, plain = torch.from_numpy(rows)[None], rows.astype(float).tolist()
    fast = _median(lambda: sequence_features(grid, grid), 20)
    slow = _ROWS * _median(lambda: features_at(plain, plain, WARMUP), 20)
    print(
        f"features of {_ROWS} rows: {fast * 1e3:.1f} ms; in a plain loop over rows {slow:.1f} s, "
        f"{slow / fast:,.0f} times as long"
    )

    shared = fit_foundation(
        {"btc_usdt": bitcoin, "eth_usdt": ether}, bitcoin, interval=Interval.H1, as_of_ms=as_of_ms, config=config
    )
    for name, weights in (("from nothing", None), ("fine-tuned", shared.weights)):
        took = _median(
            lambda weights=weights: fit(
                ether,
                bitcoin,
                pair="eth_usdt",
                interval=Interval.H1,
                as_of_ms=as_of_ms,
                config=config,
                foundation=weights,
            ),
            3,
        )
        print(f"a pair {name}, with export and checks: {took:.2f} s of one core")

    model = OnnxModel.load(shared.onnx, "foundation_1h")
    bare, served = _medians(
        lambda: model.session.run(["quantiles"], shared.input_example), lambda: model.quantiles(ether, bitcoin)
    )
    print(
        f"one inference: {bare * 1e3:.3f} ms in bare ONNX Runtime, {served * 1e3:.3f} ms from candles to checked "
        f"quantiles, {served / bare:.2f} times as long (p50); graph of {len(shared.onnx) / 1024:.0f} KiB"
    )


def _median(work: Callable[[], object], times: int) -> float:
    """Seconds of one core: what others do on a shared machine does not count."""
    seconds = []
    for _ in range(times):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds)


def _medians(*works: Callable[[], object]) -> list[float]:
    """Seconds by the clock, turn by turn: whoever disturbs one disturbs the other."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(_CALLS):
        for spent, work in zip(seconds, works, strict=True):
            began = time.perf_counter()
            work()
            spent.append(time.perf_counter() - began)
    return [statistics.median(spent) for spent in seconds]


if __name__ == "__main__":
    main()
