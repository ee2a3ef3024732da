"""Forecasts to be made, as rows, and their parts in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PIECE = 4096


@dataclass(frozen=True, eq=False)
class Samples:
    """`n` forecasts to be made: what is known at each, and what then happened.

    sequence: float32 [n, length, features]; static: float32 [n, features]; target: float32 [n], ln(next close / close).
    target_open_ms: int64 [n], the open time of the candle that the forecast is of.
    """

    sequence: Tensor
    static: Tensor
    target: Tensor
    target_open_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Samples:
        return Samples(self.sequence[rows], self.static[rows], self.target[rows], self.target_open_ms[rows])

    def pieces(self) -> Iterator[Samples]:
        """All rows, so many at a time as a network can take without much memory."""
        for first in range(0, len(self), _PIECE):
            yield self[first : first + _PIECE]

    def to(self, device: str) -> Samples:
        return Samples(self.sequence.to(device), self.static.to(device), self.target.to(device), self.target_open_ms)


def joined(parts: Sequence[Samples]) -> Samples:
    if len(parts) == 1:
        return parts[0]  # not a copy: windows that overlap in memory take a fraction of it
    return Samples(
        torch.cat([part.sequence for part in parts]),
        torch.cat([part.static for part in parts]),
        torch.cat([part.target for part in parts]),
        np.concatenate([part.target_open_ms for part in parts]),
    )


def drawn(parts: Sequence[Samples], most: int, seed: int) -> list[Samples]:
    """The parts with at most `most` rows of the same target candle, drawn at random over all parts.

    Samples of candles that fewer parts have are all kept. The order of the rows within a part stays.
    """
    times = np.concatenate([part.target_open_ms for part in parts])
    shuffled = np.random.default_rng(seed).permutation(len(times))
    by_time = shuffled[np.argsort(times[shuffled], kind="stable")]
    _, first, count = np.unique(times[by_time], return_index=True, return_counts=True)
    place = np.arange(len(times)) - np.repeat(first, count)  # of each row among those of its candle
    kept = np.zeros(len(times), dtype=bool)
    kept[by_time[place < most]] = True
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return [
        part if mine.all() else part[np.flatnonzero(mine)]
        for part, mine in zip(parts, np.split(kept, ends), strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Split:
    """In order of time. Held-out rows are for the metrics alone."""

    train: Samples
    validation: Samples
    holdout: Samples
