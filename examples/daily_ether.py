"""The demonstration of 2018, repeated: forecasts the next day's change of Ethereum from four days of two coins.

    make bench-daily

Scored by mean absolute error on the 59 days from 15 November 2017. It is kept because it shows how little a plausible
model of prices may know: none of its models is clearly better than the forecast of no change.

Prints the errors of four forecasts and draws the six pictures of docs/explanation/forecasting.md.
Reads the folder in the variable DAILY, else data/daily of the checkout.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error as sklearn_mean_absolute_error
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from make_us_rich.core.errors import MakeUsRichError, NotEnoughHistory
from make_us_rich.core.interval import Interval
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_klines

Array = NDArray[np.float64]

LAGS = 4
FIRST_DAY, TRAIN_FROM, TEST_FROM, LAST_DAY = "2016-05-01", "2017-02-28", "2017-11-15", "2018-01-13"
EPOCHS = 21
_TRAINING_DAYS, _TEST_DAYS = 260, 59  # the change after LAST_DAY is unknown
_HIDDEN, _DROPOUT, _RATE, _EPSILON = 12, 0.35, 1e-3, 1e-7
_CHANGE = "change"

_ROOT = Path(__file__).parents[1]
_SEEDS = 10
_IN_2018 = {"linear regression": 0.1220, "no change": 0.0534, "mean of training": 0.0501, "LSTM": 0.0548}
_ETHER, _BITCOIN, _SOFT, _INK = "#1f4e79", "#c25b1e", "#9dbad5", "#222222"


def main() -> None:
    parser = argparse.ArgumentParser(description="the demonstration of 2018, with its baselines and pictures")
    data = Path(os.environ.get("DAILY") or _ROOT / "data" / "daily")
    parser.add_argument("--data", type=Path, default=data, help="folder of daily candles")
    parser.add_argument("--pictures", type=Path, default=_ROOT / "docs" / "images", help="folder for the pictures")
    args = parser.parse_args()
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
    pictures = {
        "price": _both_coins(candles, "close", "close, US dollars"),
        "volume": _both_coins(candles, "volume", "volume a day, US dollars"),
        "training-split": _training_split(candles["Ethereum"], train, test),
        "loss": _loss(runs),
        "prediction": _prediction(test, runs),
        "lstm-and-regression": _changes(test, forecasts["linear regression"], runs),
    }
    for name, figure in pictures.items():
        path = args.pictures / f"2018-{name}.png"
        figure.savefig(path, dpi=80)
        print(path)


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


def _figure(label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.set_ylabel(label)
    return figure, axes


def _both_coins(candles: Mapping[str, Candles], column: str, label: str) -> Figure:
    figure, axes = _figure(label)
    for (coin, rows), color in zip(candles.items(), (_BITCOIN, _ETHER), strict=True):
        values = _frame(rows)[column]
        axes.semilogy(values.index, values, color=color, linewidth=1 if column == "volume" else None, label=coin)
    axes.legend()
    return figure


def _training_split(ether: Candles, train: Days, test: Days) -> Figure:
    figure, axes = _figure("Ethereum, US dollars")
    close = _frame(ether)["close"]
    axes.semilogy(close.index, close, color=_SOFT, label="not used to fit")
    for rows, color, label in ((train, _ETHER, "training"), (test, _BITCOIN, "test")):
        axes.semilogy(rows.day, close[rows.day], color=color, linewidth=2, label=label)
    axes.axvline(np.datetime64(TRAIN_FROM), color=_SOFT, linewidth=1)  # type: ignore[arg-type]  # dates are allowed
    axes.legend()
    return figure


def _loss(runs: Sequence[LstmForecast]) -> Figure:
    figure, axes = _figure("mean absolute error in training")
    for run in runs:
        axes.plot(range(1, len(run.losses) + 1), run.losses, color=_ETHER, alpha=0.5, linewidth=1)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _prediction(test: Days, runs: Sequence[LstmForecast]) -> Figure:
    figure, axes = _figure("Ethereum, US dollars")
    prices = test.next_open * (1 + np.array([run.forecast for run in runs]))
    day = test.day + np.timedelta64(1, "D")
    axes.plot(day, test.next_open * (1 + test.change), color=_INK, label="actual close")
    axes.fill_between(day, prices.min(axis=0), prices.max(axis=0), color=_SOFT, label="LSTM, all seeds")
    axes.plot(day, prices.mean(axis=0), color=_ETHER, label="LSTM, mean of the seeds")
    axes.legend()
    return figure


def _changes(test: Days, regression: Array, runs: Sequence[LstmForecast]) -> Figure:
    figure, axes = _figure("change in a day, %")
    day = test.day + np.timedelta64(1, "D")
    axes.axhline(0, color=_SOFT, linewidth=1)
    axes.plot(day, 100 * test.change, color=_INK, label="actual change")
    axes.plot(day, 100 * regression, color=_BITCOIN, label="linear regression")
    mean = np.mean([run.forecast for run in runs], axis=0)
    axes.plot(day, 100 * mean, color=_ETHER, label="LSTM, mean of the seeds")
    axes.legend()
    return figure


@dataclass(frozen=True, eq=False)
class Days:
    """One row for each day on which a forecast is made.

    features: [n, LAGS, 10], oldest first, standardised on the training days. change: [n], (close - open) / open of
    ether on the next day. next_open: [n], US dollars, of that day. day: [n], datetime64.
    """

    features: Array
    change: Array
    next_open: Array
    day: NDArray[np.datetime64]


Forecast = Callable[[Days, Days], Array]
"""A model: fits on the training days and returns the forecast change after each test day, [n]."""


def split(bitcoin: Candles, ether: Candles) -> tuple[Days, Days]:
    """Make the training and the test days. Raises NotEnoughHistory when daily candles are missing."""
    candles = {"bitcoin": _frame(bitcoin), "ether": _frame(ether)}
    table = pd.concat({coin: _features(rows) for coin, rows in candles.items()}, axis=1).dropna()
    scaler = StandardScaler().fit(table[TRAIN_FROM:TEST_FROM][:-1])
    scaled = pd.DataFrame(scaler.transform(table), index=table.index)
    lags = pd.concat([scaled.shift(lag) for lag in reversed(range(LAGS))], axis=1)
    lags["target"] = table["ether", _CHANGE].shift(-1)
    lags["next_open"] = candles["ether"]["open"].shift(-1)
    known = lags.dropna()
    train, test = _to_days(known[TRAIN_FROM:TEST_FROM][:-1]), _to_days(known[TEST_FROM:])
    if (len(train.change), len(test.change)) != (_TRAINING_DAYS, _TEST_DAYS):
        raise NotEnoughHistory(
            f"{len(train.change)} days to train on and {len(test.change)} to test on, {_TRAINING_DAYS} and "
            f"{_TEST_DAYS} are needed: daily candles of both coins from {FIRST_DAY} to {LAST_DAY}"
        )
    return train, test


def zero_change(train: Days, test: Days) -> Array:
    return np.zeros_like(test.change)


def train_mean(train: Days, test: Days) -> Array:
    return np.full_like(test.change, train.change.mean())


def linear_regression(train: Days, test: Days) -> Array:
    """Fit ordinary least squares on the forty standardised features: too many for 260 days, and prices among them."""
    fitted = LinearRegression().fit(train.features.reshape(len(train.change), -1), train.change)
    forecast: Array = fitted.predict(test.features.reshape(len(test.change), -1))
    return forecast


@dataclass(frozen=True, eq=False)
class LstmForecast:
    """forecast: [n], of the test days. losses: mean absolute training error of each epoch."""

    forecast: Array
    losses: list[float]


def lstm(train: Days, test: Days, seed: int, epochs: int = EPOCHS) -> LstmForecast:
    """Train the network of 2018 with batches of one day, and Keras's initial weights and epsilon for Adam."""
    torch.manual_seed(seed)
    network = _Network(train.features.shape[2])
    known, queried = (torch.tensor(part.features, dtype=torch.float32) for part in (train, test))
    target = torch.tensor(train.change, dtype=torch.float32)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE, eps=_EPSILON)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for day in torch.split(torch.randperm(len(target)), 1):
            optimiser.zero_grad()
            loss = (network(known[day]) - target[day]).abs().mean()
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        losses.append(total / len(target))
    network.eval()
    with torch.no_grad():
        return LstmForecast(network(queried).double().numpy(), losses)


class _Network(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(features, _HIDDEN, batch_first=True), nn.Linear(_HIDDEN, 1)
        self.dropout = nn.Dropout(_DROPOUT)
        recurrent = dict(self.body.named_parameters())
        nn.init.xavier_uniform_(recurrent["weight_ih_l0"])
        nn.init.orthogonal_(recurrent["weight_hh_l0"])
        nn.init.xavier_uniform_(self.head.weight)
        for bias in (recurrent["bias_ih_l0"], recurrent["bias_hh_l0"], self.head.bias):
            nn.init.zeros_(bias)
        nn.init.ones_(recurrent["bias_ih_l0"].data[_HIDDEN : 2 * _HIDDEN])  # bias of the forget gate

    def forward(self, windows: Tensor) -> Tensor:
        states: Tensor = self.body(windows)[0]
        answer: Tensor = torch.tanh(self.head(self.dropout(states[:, -1])))[:, 0]
        return answer


def mean_absolute_error(forecast: Array, days: Days) -> float:
    return float(sklearn_mean_absolute_error(days.change, forecast))


def _frame(candles: Candles) -> pd.DataFrame:
    names = ("open", "high", "low", "close", "volume")
    days = pd.to_datetime(candles.open_time_ms, unit="ms")
    return pd.DataFrame({name: getattr(candles, name) for name in names}, index=days)[FIRST_DAY:LAST_DAY]


def _features(rows: pd.DataFrame) -> pd.DataFrame:
    spread = rows["high"] - rows["low"]
    return pd.DataFrame(
        {
            "close": rows["close"],
            "volume": rows["volume"],
            "close_off_high": 2 * (rows["high"] - rows["close"]) / spread - 1,
            "volatility": spread / rows["open"],
            _CHANGE: (rows["close"] - rows["open"]) / rows["open"],
        }
    )


def _to_days(rows: pd.DataFrame) -> Days:
    target, next_open = rows["target"].to_numpy(), rows["next_open"].to_numpy()
    features = rows.drop(columns=["target", "next_open"]).to_numpy()
    return Days(features.reshape(len(rows), LAGS, -1), target, next_open, rows.index.to_numpy())


if __name__ == "__main__":
    main()
