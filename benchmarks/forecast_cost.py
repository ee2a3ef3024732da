"""What a forecast costs: features, training, fine-tuning with export and checks, one inference. One thread.

python -m benchmarks.forecast_cost [--candles DIR]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch

from benchmarks.forecast import DATA
from make_us_rich.forecasting.features import WARMUP, sequence_features
from make_us_rich.forecasting.pipeline import fit, fit_foundation
from make_us_rich.forecasting.recipe import Recipe
from make_us_rich.forecasting.windows import columns
from make_us_rich.intervals import HOUR_MS
from make_us_rich.market.recorded import read_recorded
from make_us_rich.pairs import BITCOIN, Pair

ETHER = Pair("eth", "usdt")
_ROWS = 8749
_CALLS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description="seconds a forecast costs")
    parser.add_argument("--candles", type=Path, default=DATA, help="folder of hourly klines")
    folder = parser.parse_args().candles
    torch.set_num_threads(1)
    bitcoin, ether = read_recorded(folder, [BITCOIN, ETHER], "1h").values()
    as_of_ms = int(ether.open_time_ms[-1]) + HOUR_MS
    recipe = Recipe()

    grid = torch.from_numpy(columns(ether[-_ROWS - WARMUP :]))[None]
    fast = _median(lambda: sequence_features(grid, grid), 20)
    window = grid[:, : WARMUP + 1]
    slow = _ROWS * _median(lambda: sequence_features(window, window), 200)
    print(f"features of {_ROWS} rows: {fast * 1e3:.1f} ms; one row at a time {slow * 1e3:.0f} ms")

    shared = fit_foundation(
        {"btc_usdt": bitcoin, "eth_usdt": ether}, bitcoin, interval="1h", as_of_ms=as_of_ms, recipe=recipe
    )
    for name, weights in (("from nothing", None), ("fine-tuned", shared.weights)):
        took = _median(
            lambda weights=weights: fit(
                ether,
                bitcoin,
                pair="eth_usdt",
                interval="1h",
                as_of_ms=as_of_ms,
                recipe=recipe,
                foundation=weights,
            ),
            3,
        )
        print(f"a pair {name}, with export and checks: {took:.2f} s")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(shared.onnx, options, providers=["CPUExecutionProvider"])
    took = _median(lambda: session.run(None, shared.input_example), _CALLS)
    print(f"one inference: {took * 1e3:.3f} ms (p50), graph of {len(shared.onnx) / 1024:.0f} KiB")


def _median(work: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
