"""Training samples, and their split in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of `n` forecasts: the features that are known at each, and the returns that followed.

    sequence: float32 [n, length, features]; static: float32 [n, features].
    target: float32 [n, HORIZONS], ln(close / last close) 1 to HORIZONS candles ahead; NaN where that close is unknown.
    realised: float32 [n, HORIZONS], the volatility until that close, from the candles' ranges; NaN where target is NaN.
    target_open_ms: int64 [n], the open time of the next candle.
    """

    sequence: Tensor
    static: Tensor
    target: Tensor
    realised: Tensor
    target_open_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, chosen: slice | NDArray[np.int64]) -> Samples:
        return Samples(
            self.sequence[chosen],
            self.static[chosen],
            self.target[chosen],
            self.realised[chosen],
            self.target_open_ms[chosen],
        )

    def known_at(self, time_ms: int, step_ms: int) -> Samples:
        """Return these samples with NaN for the targets that closed later than `time_ms`."""
        ahead = np.arange(1, self.target.shape[1] + 1)
        later = torch.from_numpy(self.target_open_ms[:, None] + ahead * step_ms > time_ms).to(self.target.device)
        target, realised = (values.masked_fill(later, float("nan")) for values in (self.target, self.realised))
        return replace(self, target=target, realised=realised)

    def complete(self) -> Samples:
        """Return the samples whose targets are all known."""
        known = torch.isfinite(self.target).all(dim=1).cpu().numpy()
        count = int(known.sum())
        return self[:count] if known[:count].all() else self[np.flatnonzero(known)]  # a slice copies nothing

    def chunks(self) -> Iterator[Samples]:
        """Yield all samples in parts that a network evaluates in little memory."""
        for first in range(0, len(self), _CHUNK):
            yield self[first : first + _CHUNK]

    def to(self, device: str) -> Samples:
        """Copy the tensors to a device."""
        return Samples(
            self.sequence.to(device),
            self.static.to(device),
            self.target.to(device),
            self.realised.to(device),
            self.target_open_ms,
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Samples divided by time.

    train and validation: all their targets are before the holdout. holdout: for evaluation only; NaN where a target is
    later than the newest close. past: all samples before the holdout, for baselines; NaN where a target is inside it.
    """

    train: Samples
    validation: Samples
    holdout: Samples
    past: Samples


def concatenate(parts: Sequence[Samples]) -> Samples:
    """Concatenate the parts; a single part is returned itself."""
    if len(parts) == 1:
        return parts[0]  # not a copy: its windows overlap in memory, a copy would take many times as much
    return Samples(
        torch.cat([part.sequence for part in parts]),
        torch.cat([part.static for part in parts]),
        torch.cat([part.target for part in parts]),
        torch.cat([part.realised for part in parts]),
        np.concatenate([part.target_open_ms for part in parts]),
    )


def draw(parts: Sequence[Samples], per_candle: int, *, seed: int, epoch: int = 0) -> Samples:
    """Draw `per_candle` random samples of each target candle from all parts. The same seed draws the same samples.

    Each epoch draws samples that no earlier one drew, until a candle has no more; then the draws repeat. The result
    keeps the order of the parts.
    """
    times = np.concatenate([part.target_open_ms for part in parts])
    shuffled = np.random.default_rng(seed).permutation(len(times))
    by_time = shuffled[np.argsort(times[shuffled], kind="stable")]
    _, first, count = np.unique(times[by_time], return_index=True, return_counts=True)
    chosen = np.sort(by_time[first[:, None] + (epoch * per_candle + np.arange(per_candle)) % count[:, None]].ravel())
    ends = np.cumsum([len(part) for part in parts])
    each = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    return concatenate([part[mine - (end - len(part))] for part, mine, end in zip(parts, each, ends, strict=True)])
