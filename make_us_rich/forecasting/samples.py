"""Training samples, and their split in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Samples:
    """`n` forecasts to make: the features known at each, and the return that followed.

    sequence: float32 [n, length, features]; static: float32 [n, features]; target: float32 [n], ln(next close / close).
    target_open_ms: int64 [n], the open time of the candle that is forecast.
    """

    sequence: Tensor
    static: Tensor
    target: Tensor
    target_open_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, chosen: slice | NDArray[np.int64]) -> Samples:
        return Samples(self.sequence[chosen], self.static[chosen], self.target[chosen], self.target_open_ms[chosen])

    def chunks(self) -> Iterator[Samples]:
        """Yield all samples in parts that a network evaluates in little memory."""
        for first in range(0, len(self), _CHUNK):
            yield self[first : first + _CHUNK]

    def to(self, device: str) -> Samples:
        """Copy the tensors to a device."""
        return Samples(self.sequence.to(device), self.static.to(device), self.target.to(device), self.target_open_ms)


@dataclass(frozen=True, eq=False)
class Split:
    """Samples in order of time. The holdout is for evaluation alone."""

    train: Samples
    validation: Samples
    holdout: Samples


def concatenate(parts: Sequence[Samples]) -> Samples:
    """Concatenate the parts; a single part is returned itself."""
    if len(parts) == 1:
        return parts[0]  # not a copy: its windows overlap in memory, a copy would take many times as much
    return Samples(
        torch.cat([part.sequence for part in parts]),
        torch.cat([part.static for part in parts]),
        torch.cat([part.target for part in parts]),
        np.concatenate([part.target_open_ms for part in parts]),
    )


def subsample(parts: Sequence[Samples], max_per_candle: int, seed: int) -> list[Samples]:
    """Keep at most `max_per_candle` samples of the same target candle, chosen at random over all parts.

    The order of the samples within a part stays.
    """
    times = np.concatenate([part.target_open_ms for part in parts])
    shuffled = np.random.default_rng(seed).permutation(len(times))
    by_time = shuffled[np.argsort(times[shuffled], kind="stable")]
    _, first, count = np.unique(times[by_time], return_index=True, return_counts=True)
    rank = np.arange(len(times)) - np.repeat(first, count)  # of each sample among those of its candle
    kept = np.zeros(len(times), dtype=bool)
    kept[by_time[rank < max_per_candle]] = True
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return [
        part if mine.all() else part[np.flatnonzero(mine)]
        for part, mine in zip(parts, np.split(kept, ends), strict=True)
    ]
