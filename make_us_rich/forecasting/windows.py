"""From candles to training rows: regular segments, features, targets, and the split in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from make_us_rich.errors import BadCandles, NotEnoughHistory
from make_us_rich.forecasting.contract import hour_of_week
from make_us_rich.forecasting.features import WARMUP, sequence_features
from make_us_rich.intervals import interval_ms
from make_us_rich.market.candles import Candles, closed, regular

_LEAST_TRAINING_ROWS = 500


@dataclass(frozen=True, eq=False)
class Rows:
    """`n` forecasts to be made: what is known at each, and what then happened.

    sequence: float32 [n, length, 12]; static: float32 [n, 14]; target: float32 [n], ln(next close / close).
    target_open_ms: int64 [n], the open time of the candle that the forecast is of.
    """

    sequence: Tensor
    static: Tensor
    target: Tensor
    target_open_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: slice) -> Rows:
        return Rows(self.sequence[rows], self.static[rows], self.target[rows], self.target_open_ms[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """In order of time. Held-out rows are for the metrics alone."""

    train: Rows
    validation: Rows
    holdout: Rows


@dataclass(frozen=True, eq=False)
class Panel:
    """Gap-free stretches in which the pair and BTC both have candles, aligned: each [n, 6], oldest first."""

    times: list[NDArray[np.int64]]
    candles: list[NDArray[np.float32]]
    reference: list[NDArray[np.float32]]


def panel(candles: Candles, reference: Candles, *, interval: str, as_of_ms: int, max_bridged: int) -> Panel:
    """What both markets know at `as_of_ms`; nothing later is looked at. Raises BadCandles."""
    mine = closed(candles, interval, as_of_ms)
    btc = closed(reference, interval, as_of_ms)
    _check_prices(mine)
    times, own, other = [], [], []
    for segment in regular(mine, interval, max_bridged):
        for partner in regular(btc, interval, max_bridged):
            both, left, right = np.intersect1d(
                segment.candles.open_time_ms, partner.candles.open_time_ms, return_indices=True
            )
            if len(both):
                times.append(both)
                own.append(columns(segment.candles[left]))
                other.append(columns(partner.candles[right]))
    return Panel(times, own, other)


def columns(candles: Candles) -> NDArray[np.float32]:
    """[n, 6] as in contract.COLUMNS."""
    parts = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    return np.stack([*parts, hour_of_week(candles.open_time_ms)], axis=-1).astype(np.float32)


def rows_of(found: Panel, *, interval: str, length: int) -> Rows:
    """A row for every candle with enough history before it and a next candle after it."""
    step = interval_ms(interval)
    parts = [
        _segment_rows(times, own, btc, step, length)
        for times, own, btc in zip(found.times, found.candles, found.reference, strict=True)
        if len(times) > WARMUP + length
    ]
    if not parts:
        raise NotEnoughHistory(
            f"no stretch of {WARMUP + length + 1} candles without a long gap: fetch more history"
        )
    return _concatenated(parts)


def split(rows: Rows, *, interval: str, as_of_ms: int, validation: int, holdout: int) -> Split:
    """By time: the last `holdout` candles, the `validation` candles before them, and all that is older.

    A target is one candle long and every feature looks back only, so the parts share no future.
    """
    step = interval_ms(interval)
    holdout_start = as_of_ms - holdout * step
    validation_start = holdout_start - validation * step
    first, second = np.searchsorted(rows.target_open_ms, [validation_start, holdout_start])
    parts = Split(rows[: int(first)], rows[int(first) : int(second)], rows[int(second) :])
    for name, part, least in (
        ("to train on", parts.train, _LEAST_TRAINING_ROWS),
        ("to validate on", parts.validation, validation // 2),
        ("held out", parts.holdout, holdout // 2),
    ):
        if len(part) < least:
            raise NotEnoughHistory(
                f"{len(part)} usable candles {name}, {least} needed: the pair is too young, or was halted"
            )
    return parts


def raw_windows(
    found: Panel, target_open_ms: NDArray[np.int64], *, interval: str, context: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The graph's inputs for these targets: (candles, reference), each [n, context, 6]."""
    step = interval_ms(interval)
    own, btc = [], []
    for target in target_open_ms:
        for times, mine, other in zip(found.times, found.candles, found.reference, strict=True):
            end = int(np.searchsorted(times, target - step)) + 1
            if end <= len(times) and times[end - 1] == target - step and end >= context:
                own.append(mine[end - context : end])
                btc.append(other[end - context : end])
                break
    return np.stack(own), np.stack(btc)


def _segment_rows(
    times: NDArray[np.int64], own: NDArray[np.float32], btc: NDArray[np.float32], step: int, length: int
) -> Rows:
    with torch.no_grad():
        sequence, static = sequence_features(torch.from_numpy(own)[None], torch.from_numpy(btc)[None])
    windows = sequence[0].unfold(0, length, 1).transpose(1, 2)  # [n, length, features]
    last = torch.arange(WARMUP + length - 1, len(times) - 1)  # the row that each forecast is made at
    close = torch.from_numpy(own[:, 3])
    return Rows(
        windows[: len(last)],
        static[0][length - 1 : length - 1 + len(last)],
        (close[last + 1] / close[last]).log(),
        times[last.numpy()] + step,
    )


def _concatenated(parts: Sequence[Rows]) -> Rows:
    return Rows(
        torch.cat([part.sequence for part in parts]),
        torch.cat([part.static for part in parts]),
        torch.cat([part.target for part in parts]),
        np.concatenate([part.target_open_ms for part in parts]),
    )


def _check_prices(candles: Candles) -> None:
    prices = np.stack([candles.open, candles.high, candles.low, candles.close])
    if not (np.isfinite(prices).all() and (prices > 0).all()):
        raise BadCandles("prices that are not finite and positive: clean the candles first")
    if len(candles) and (candles.close == candles.close[0]).all():
        raise BadCandles("the price never moves: the market is halted or not real")
