"""The demonstration of 2018, repeated: forecasts the next day's change of Ethereum from four days of two coins.

    make bench-daily

Prints the errors of four forecasts and draws the six pictures of docs/explanation/forecasting.md.
Reads the folder in the variable DAILY, else data/daily of the checkout.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.interval import Interval
from make_us_rich.forecasting.daily_ether import (
    FIRST_DAY,
    LAST_DAY,
    TRAIN_FROM,
    Array,
    Days,
    LstmForecast,
    linear_regression,
    lstm,
    mean_absolute_error,
    split,
    train_mean,
    zero_change,
)
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_klines

_ROOT = Path(__file__).parents[1]
_SEEDS = 10
_IN_2018 = {"linear regression": 0.1220, "no change": 0.0534, "mean of training": 0.0501, "LSTM": 0.0548}
_ETHER, _BITCOIN, _SOFT, _INK = "#1f4e79", "#c25b1e", "#9dbad5", "#222222"


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    candles = _read(args.data)
    train, test = split(candles["Bitcoin"], candles["Ethereum"])
    forecasts = {
        "linear regression": linear_regression(train, test),
        "no change": zero_change(train, test),
        "mean of training": train_mean(train, test),
    }
    runs = [lstm(train, test, seed) for seed in range(_SEEDS)]
    errors = {name: mean_absolute_error(forecast, test) for name, forecast in forecasts.items()}
    of_seeds = [mean_absolute_error(run.forecast, test) for run in runs]
    errors["LSTM"] = float(np.mean(of_seeds))
    print(f"{len(train.change)} days to train on, {len(test.change)} to test on\n")
    print(f"{'mean absolute error':24}{'here':>10}{'in 2018':>10}")
    for name, error in errors.items():
        print(f"{name:24}{error:10.6f}{_IN_2018[name]:10.4f}")
    print(f"LSTM: mean of {_SEEDS} seeds, from {min(of_seeds):.4f} to {max(of_seeds):.4f}")
    for name, figure in _pictures(candles, train, test, forecasts["linear regression"], runs).items():
        path = args.pictures / f"2018-{name}.png"
        figure.savefig(path, dpi=80)
        print(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the demonstration of 2018, with its baselines and pictures")
    data = Path(os.environ.get("DAILY") or _ROOT / "data" / "daily")
    parser.add_argument("--data", type=Path, default=data, help="folder of daily candles")
    parser.add_argument("--pictures", type=Path, default=_ROOT / "docs" / "images", help="folder for the pictures")
    return parser.parse_args()


def _read(folder: Path) -> dict[str, Candles]:
    files = {"Bitcoin": "BTCUSD_coinmarketcap.parquet", "Ethereum": "ETHUSD_coinmarketcap.parquet"}
    try:
        return {coin: read_klines(folder / name, Interval.D1) for coin, name in files.items()}
    except (OSError, MakeUsRichError) as error:
        raise SystemExit(
            f"{error}\n{folder} must hold {' and '.join(files.values())}: CoinMarketCap's daily history "
            f"from {FIRST_DAY} to {LAST_DAY}, with the columns open_time (ms), open, high, low, close, "
            "volume (US dollars). Binance cannot give it: its Ethereum begins in August 2017."
        ) from None


def _pictures(
    candles: Mapping[str, Candles], train: Days, test: Days, regression: Array, runs: Sequence[LstmForecast]
) -> dict[str, Figure]:
    """Draw the pictures of the notebook, by name."""
    return {
        "price": _both_coins(candles, "close", "close, US dollars"),
        "volume": _both_coins(candles, "volume", "volume a day, US dollars", linewidth=1),
        "training-split": _split(candles["Ethereum"], train, test),
        "loss": _loss(runs),
        "prediction": _prediction(test, runs),
        "lstm-and-regression": _both(test, regression, runs),
    }


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    return figure, figure.subplots()


def _days(candles: Candles) -> tuple[Array, slice]:
    """Return the open times as datetimes, and the slice of candles that the demonstration uses."""
    days = candles.open_time_ms.astype("datetime64[ms]")
    first, last = np.searchsorted(days, np.array([FIRST_DAY, LAST_DAY], dtype="datetime64[ms]"))
    return days, slice(int(first), int(last) + 1)


def _both_coins(
    candles: Mapping[str, Candles], column: Literal["close", "volume"], label: str, linewidth: float | None = None
) -> Figure:
    figure, axes = _figure()
    for (coin, rows), color in zip(candles.items(), (_BITCOIN, _ETHER), strict=True):
        days, part = _days(rows)
        axes.semilogy(days[part], getattr(rows, column)[part], color=color, linewidth=linewidth, label=coin)
    axes.set_ylabel(label)
    axes.legend()
    return figure


def _split(ether: Candles, train: Days, test: Days) -> Figure:
    figure, axes = _figure()
    days, part = _days(ether)
    axes.semilogy(days[part], ether.close[part], color=_SOFT, label="not used to fit")
    for rows, color, label in ((train, _ETHER, "training"), (test, _BITCOIN, "test")):
        chosen = np.isin(days, rows.day.astype("datetime64[ms]"))
        axes.semilogy(days[chosen], ether.close[chosen], color=color, linewidth=2, label=label)
    axes.axvline(np.datetime64(TRAIN_FROM), color=_SOFT, linewidth=1)  # type: ignore[arg-type]  # dates are allowed
    axes.set_ylabel("Ethereum, US dollars")
    axes.legend()
    return figure


def _loss(runs: Sequence[LstmForecast]) -> Figure:
    figure, axes = _figure()
    for run in runs:
        axes.plot(range(1, len(run.losses) + 1), run.losses, color=_ETHER, alpha=0.5, linewidth=1)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean absolute error in training")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _prediction(test: Days, runs: Sequence[LstmForecast]) -> Figure:
    figure, axes = _figure()
    prices = test.next_open * (1 + np.array([run.forecast for run in runs]))
    day = test.day + np.timedelta64(1, "D")
    axes.plot(day, test.next_open * (1 + test.change), color=_INK, label="actual close")
    axes.fill_between(day, prices.min(axis=0), prices.max(axis=0), color=_SOFT, label="LSTM, all seeds")
    axes.plot(day, prices.mean(axis=0), color=_ETHER, label="LSTM, mean of the seeds")
    axes.set_ylabel("Ethereum, US dollars")
    axes.legend()
    return figure


def _both(test: Days, regression: Array, runs: Sequence[LstmForecast]) -> Figure:
    figure, axes = _figure()
    day = test.day + np.timedelta64(1, "D")
    axes.axhline(0, color=_SOFT, linewidth=1)
    axes.plot(day, 100 * test.change, color=_INK, label="actual change")
    axes.plot(day, 100 * regression, color=_BITCOIN, label="linear regression")
    mean = np.mean([run.forecast for run in runs], axis=0)
    axes.plot(day, 100 * mean, color=_ETHER, label="LSTM, mean of the seeds")
    axes.set_ylabel("change in a day, %")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
