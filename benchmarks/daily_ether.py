"""The 2018 demonstration again: tomorrow's change of Ethereum from four days of Bitcoin and Ethereum.

    python -m benchmarks.daily_ether [--data DIR] [--report FILE]

DIR holds BTCUSD_coinmarketcap.parquet and ETHUSD_coinmarketcap.parquet; FILE gets the plots.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from make_us_rich.forecasting.daily_ether import (
    Array,
    Days,
    LstmForecast,
    days_of,
    linear_regression,
    lstm,
    mean_absolute_error,
    split,
    train_mean,
    zero_change,
)
from make_us_rich.forecasting.report import page
from make_us_rich.market.recorded import read_klines

_DATA = Path(__file__).parents[2] / "shared" / "data" / "daily"
_SEEDS = 10
_KNOWN = {"linear regression": 0.1220, "no change": 0.0534, "mean of training": 0.0501, "LSTM": 0.0548}


def main() -> None:
    parser = argparse.ArgumentParser(description="the 2018 demonstration, with its baselines")
    parser.add_argument("--data", type=Path, default=_DATA, help="folder of daily candles")
    parser.add_argument("--report", type=Path, help="HTML file of the plots")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bitcoin, ether = (
        read_klines(args.data / f"{coin}USD_coinmarketcap.parquet", "1d") for coin in ("BTC", "ETH")
    )
    train, test = split(days_of(bitcoin, ether))
    runs = [lstm(train, test, seed) for seed in range(_SEEDS)]
    forecasts = {
        "linear regression": linear_regression(train, test),
        "no change": zero_change(train, test),
        "mean of training": train_mean(train, test),
    }
    errors = {name: mean_absolute_error(forecast, test) for name, forecast in forecasts.items()}
    of_seeds = [mean_absolute_error(run.forecast, test) for run in runs]
    errors["LSTM"] = float(np.mean(of_seeds))
    print(f"{len(train.change)} days to train on, {len(test.change)} to test on\n")
    print(f"{'mean absolute error':24}{'here':>8}{'in 2018':>9}")
    for name, error in errors.items():
        print(f"{name:24}{error:8.4f}{_KNOWN[name]:9.4f}")
    print(f"LSTM: mean of {_SEEDS} seeds, from {min(of_seeds):.4f} to {max(of_seeds):.4f}")
    if args.report:
        args.report.write_text(_report(train, test, forecasts, runs))


def _report(train: Days, test: Days, forecasts: dict[str, Array], runs: Sequence[LstmForecast]) -> str:
    days = np.concatenate([train.day_ms, test.day_ms]).astype("datetime64[ms]")
    levels = np.concatenate([train.levels[:, -1], test.levels[:, -1]])
    return page(
        "Tomorrow's Ethereum, as in 2018",
        "",
        [
            ("Closes", "US dollars, logarithmic.", _coins(days, levels[:, [0, 2]])),
            ("Volumes", "US dollars a day, logarithmic.", _coins(days, levels[:, [1, 3]])),
            ("Learning", "Mean absolute error by epoch, a line a seed.", _learning(runs)),
            (
                "Forecasts",
                "The change of the next close, and what was forecast.",
                _forecasts(test, forecasts, runs),
            ),
        ],
    )


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 4), layout="constrained")
    return figure, figure.subplots()


def _coins(days: Array, values: Array) -> Figure:
    figure, axes = _figure()
    for name, column in zip(("bitcoin", "ether"), values.T, strict=True):
        axes.semilogy(days, column, label=name)
    axes.legend()
    return figure


def _learning(runs: Sequence[LstmForecast]) -> Figure:
    figure, axes = _figure()
    for run in runs:
        axes.plot([row["validation_loss"] for row in run.curves], color="#1f4e79", alpha=0.4)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation error")
    return figure


def _forecasts(test: Days, forecasts: dict[str, Array], runs: Sequence[LstmForecast]) -> Figure:
    figure, axes = _figure()
    days = test.day_ms.astype("datetime64[ms]")
    axes.plot(days, test.change, color="black", label="what happened")
    axes.plot(days, forecasts["linear regression"], color="#c25b1e", label="linear regression")
    axes.plot(
        days, np.mean([run.forecast for run in runs], axis=0), color="#1f4e79", label="LSTM, mean of seeds"
    )
    axes.axhline(0, color="#888", linewidth=1)
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
