"""The 2018 demonstration as a recipe: tomorrow's change of Ethereum from four days of Bitcoin and Ethereum.

Daily closes and volumes of both coins give the fractional change of the next close of ether, scored by mean absolute
error on the days after 15 November 2017. It is kept beside the hourly models because it shows how little a good-looking
regression on prices may know: the linear regression on levels loses to the forecast of no change.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from make_us_rich.errors import NotEnoughHistory
from make_us_rich.market.candles import Candles

Array = NDArray[np.float64]

LAGS = 4
TEST_FROM = datetime(2017, 11, 15, tzinfo=UTC)
TEST_DAYS = 59
_DAY_MS = 86_400_000
_LEAST_ROWS = 100
_VALIDATION_DAYS = 60
_HIDDEN, _EPOCHS, _RATE, _BATCH, _DECAY = 8, 15, 3e-3, 64, 0.1


@dataclass(frozen=True, eq=False)
class Days:
    """A row a day on which a forecast is made.

    levels: [n, LAGS, 4], oldest first, of bitcoin's close and volume and ether's. change: [n], the fraction by which
    the next close of ether differs from that day's. day_ms: [n], when the day opened.
    """

    levels: Array
    change: Array
    day_ms: NDArray[np.int64]

    def __getitem__(self, rows: slice) -> Days:
        return Days(self.levels[rows], self.change[rows], self.day_ms[rows])


def days_of(bitcoin: Candles, ether: Candles) -> Days:
    """Of the days that both coins have, in a row."""
    shared, left, right = np.intersect1d(bitcoin.open_time_ms, ether.open_time_ms, return_indices=True)
    columns = [bitcoin.close[left], bitcoin.volume[left], ether.close[right], ether.volume[right]]
    levels = np.lib.stride_tricks.sliding_window_view(np.stack(columns, axis=1), LAGS, axis=0)
    close = ether.close[right]
    usable = slice(0, len(shared) - LAGS)
    return Days(
        levels.transpose(0, 2, 1)[usable],
        (close[LAGS:] / close[LAGS - 1 : -1] - 1),
        shared[LAGS - 1 : -1],
    )


def split(days: Days) -> tuple[Days, Days]:
    """(before TEST_FROM, with what happened known by then; TEST_DAYS from it). Raises NotEnoughHistory."""
    first = int(np.searchsorted(days.day_ms, int(TEST_FROM.timestamp() * 1000)))
    train, test = days[: max(first - 1, 0)], days[first : first + TEST_DAYS]
    if len(train.change) < _LEAST_ROWS or len(test.change) < TEST_DAYS:
        raise NotEnoughHistory(
            f"{len(train.change)} days before {TEST_FROM:%F} and {len(test.change)} from it: "
            f"{_LEAST_ROWS} and {TEST_DAYS} are needed"
        )
    return train, test


def zero_change(train: Days, test: Days) -> Array:
    return np.zeros_like(test.change)


def train_mean(train: Days, test: Days) -> Array:
    return np.full_like(test.change, train.change.mean())


def linear_regression(train: Days, test: Days) -> Array:
    """Least squares on the levels themselves, as in 2018: prices outside the range that it was fitted on mislead it."""
    known, asked = (
        np.c_[np.ones(len(part.change)), part.levels.reshape(-1, 4 * LAGS)] for part in (train, test)
    )
    scale = np.abs(known).max(axis=0)
    weights = np.linalg.lstsq(known / scale, train.change, rcond=None)[0]
    forecast: Array = (asked / scale) @ weights
    return forecast


@dataclass(frozen=True, eq=False)
class LstmForecast:
    """forecast: [n] of the test days. curves: a row an epoch, train_loss and validation_loss."""

    forecast: Array
    curves: list[dict[str, float]]


def lstm(train: Days, test: Days, seed: int) -> LstmForecast:
    """A small LSTM on logarithms relative to each window's last day, fitted to the absolute error.

    It begins as the median change; the epoch that did best on the last days of training is the one that is used.
    """
    torch.manual_seed(seed)
    network = _Network(train[:-_VALIDATION_DAYS])
    known, asked = (torch.from_numpy(_relative(part)) for part in (train, test))
    target = torch.from_numpy(train.change).float()
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    best, best_loss, curves = copy.deepcopy(network.state_dict()), math.inf, []
    for _ in range(_EPOCHS):
        with torch.no_grad():
            errors = (network(known) - target).abs()
        losses = {
            "train_loss": float(errors[:-_VALIDATION_DAYS].mean()),
            "validation_loss": float(errors[-_VALIDATION_DAYS:].mean()),
        }
        curves.append(losses)
        if losses["validation_loss"] < best_loss:
            best, best_loss = copy.deepcopy(network.state_dict()), losses["validation_loss"]
        for chosen in torch.split(torch.randperm(len(target) - _VALIDATION_DAYS), _BATCH):
            optimiser.zero_grad()
            (network(known[chosen]) - target[chosen]).abs().mean().backward()
            optimiser.step()
    network.load_state_dict(best)
    with torch.no_grad():
        return LstmForecast(network(asked).double().numpy(), curves)


class _Network(nn.Module):
    def __init__(self, days: Days) -> None:
        super().__init__()
        windows = torch.from_numpy(_relative(days))
        self.mean, self.deviation = windows.mean(dim=(0, 1)), windows.std(dim=(0, 1)) + 1e-9
        self.body, self.head = nn.LSTM(4, _HIDDEN, batch_first=True), nn.Linear(_HIDDEN, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, float(np.median(days.change)))

    def forward(self, windows: Tensor) -> Tensor:
        states: Tensor = self.body((windows - self.mean) / self.deviation)[0]
        answer: Tensor = self.head(states[:, -1])[:, 0]
        return answer


def mean_absolute_error(forecast: Array, days: Days) -> float:
    return float(np.abs(forecast - days.change).mean())


def _relative(days: Days) -> NDArray[np.float32]:
    """Logarithms of all levels less those of the last day, [n, LAGS, 4]."""
    logs = np.log(np.maximum(days.levels, 1e-12))
    return (logs - logs[:, -1:]).astype(np.float32)
