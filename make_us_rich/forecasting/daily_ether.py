"""The demonstration of 2018, reproduced: forecasts the next day's change of Ethereum from four days of two coins.

Scored by mean absolute error on the 59 days from 15 November 2017. It is kept because it shows how little a plausible
model of prices may know: none of its models is clearly better than the forecast of no change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error as sklearn_mean_absolute_error
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.market.candles import Candles

Array = NDArray[np.float64]

LAGS = 4
FIRST_DAY, TRAIN_FROM, TEST_FROM, LAST_DAY = "2016-05-01", "2017-02-28", "2017-11-15", "2018-01-13"
EPOCHS = 21
_TRAINING_DAYS, _TEST_DAYS = 260, 59  # the change after LAST_DAY is unknown
_HIDDEN, _DROPOUT, _RATE, _EPSILON = 12, 0.35, 1e-3, 1e-7
_ETHER, _CHANGE = "ether", "change"


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
    candles = {"bitcoin": _frame(bitcoin), _ETHER: _frame(ether)}
    table = pd.concat({coin: _features(rows) for coin, rows in candles.items()}, axis=1).dropna()
    scaler = StandardScaler().fit(table[TRAIN_FROM:TEST_FROM][:-1])
    scaled = pd.DataFrame(scaler.transform(table), index=table.index)
    lags = pd.concat([scaled.shift(lag) for lag in reversed(range(LAGS))], axis=1)
    lags["target"] = table[_ETHER, _CHANGE].shift(-1)
    lags["next_open"] = candles[_ETHER]["open"].shift(-1)
    known = lags.dropna()
    train, test = _days(known[TRAIN_FROM:TEST_FROM][:-1]), _days(known[TEST_FROM:])
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


def _days(rows: pd.DataFrame) -> Days:
    target, next_open = rows["target"].to_numpy(), rows["next_open"].to_numpy()
    features = rows.drop(columns=["target", "next_open"]).to_numpy()
    return Days(features.reshape(len(rows), LAGS, -1), target, next_open, rows.index.to_numpy())
