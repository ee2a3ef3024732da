"""What more pairs do to the model of all pairs, with and without the bound on how often training sees one hour.

    python -m benchmarks.foundation_pairs [--candles DIR] [--pairs btc_usdt,...] [--few 16] [--windows report]

Trains three models on the year before each window: of the first so many pairs; of all pairs, every row; of all pairs,
rows drawn (`TrainingConfig.foundation_views`). Each is fine-tuned to each of the first pairs, and scored on the window.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.candles import PAIRS, add_candles_option, read_candles
from benchmarks.forecast import window_starts
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.forecasting.backtest import WINDOW
from make_us_rich.forecasting.evaluation import diebold_mariano, pinball
from make_us_rich.forecasting.pipeline import Prepared, fit_foundation, prepare, train_prepared
from make_us_rich.forecasting.training_config import TrainingConfig
from make_us_rich.market.candles import Candles

_MORE = "aave algo axs bch egld eos fil icp mana theta vet"
_PAIRS = ",".join(f"{coin}_usdt" for coin in f"{PAIRS} {_MORE}".split())
_UNBOUNDED = 1_000_000
_RECIPE = replace(TrainingConfig(), holdout=WINDOW)


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    markets = read_candles(args.candles, [Pair.parse(text) for text in args.pairs.split(",")])
    few = list(markets)[: args.few]
    some = {pair: markets[pair] for pair in few}
    names = (f"{len(few)} pairs", f"{len(markets)} pairs, all rows", f"{len(markets)} pairs, rows drawn")
    losses: list[dict[tuple[int, str], NDArray[np.float64]]] = [{}, {}, {}]
    for start_ms in window_starts(args.windows):
        end_ms = start_ms + WINDOW * HOUR_MS
        ready = {
            pair: prepare(candles, markets[str(BITCOIN)], interval=Interval.H1, as_of_ms=end_ms, config=_RECIPE)
            for pair, candles in some.items()
        }
        for kept, chosen, views in zip(
            losses, (some, markets, markets), (_UNBOUNDED, _UNBOUNDED, _RECIPE.foundation_views), strict=True
        ):
            kept |= _losses(chosen, markets[str(BITCOIN)], ready, end_ms, views)
        for name, kept in zip(names[1:], losses[1:], strict=True):
            print(f"{np.datetime64(start_ms, 'ms'):.10} {name}: {_versus(kept, losses[0])}", flush=True)
    print()
    for name, kept in zip(names[1:], losses[1:], strict=True):
        print(f"{name} against {names[0]}: {_versus(kept, losses[0])}")


def _losses(
    markets: Mapping[str, Candles], bitcoin: Candles, ready: Mapping[str, Prepared], as_of_ms: int, views: int
) -> dict[tuple[int, str], NDArray[np.float64]]:
    """Pinball losses on the held-out candles by window and pair."""
    config = replace(_RECIPE, foundation_views=views)
    weights = fit_foundation(markets, bitcoin, interval=Interval.H1, as_of_ms=as_of_ms, config=config).weights
    found = {}
    for pair, item in ready.items():
        rows = item.split.holdout
        network = train_prepared(item, as_of_ms=as_of_ms, config=config, foundation=weights).network
        with torch.no_grad():
            quantiles = network(rows.sequence, rows.static).double().numpy()
        found[as_of_ms, pair] = pinball(quantiles, rows.target.double().numpy())
    return found


def _versus(
    ours: Mapping[tuple[int, str], NDArray[np.float64]], theirs: Mapping[tuple[int, str], NDArray[np.float64]]
) -> str:
    gains = np.array([1 - ours[key].mean() / theirs[key].mean() for key in ours])
    hourly: dict[int, list[NDArray[np.float64]]] = {}
    for key in ours:
        hourly.setdefault(key[0], []).append((theirs[key] - ours[key]) / theirs[key].mean())
    means = np.concatenate([np.mean(pairs, axis=0) for pairs in hourly.values()])
    t = diebold_mariano(-means, np.zeros_like(means))
    return f"{gains.mean():+.2%}, {(gains > 0).sum()} of {len(gains)} pair-windows won, t {t:+.1f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a foundation of many pairs against one of few")
    add_candles_option(parser)
    parser.add_argument("--pairs", default=_PAIRS, help="comma separated, with btc_usdt among the first few")
    parser.add_argument("--few", type=int, default=16)
    parser.add_argument("--windows", choices=("report", "choose"), default="report")
    return parser.parse_args()


if __name__ == "__main__":
    main()
