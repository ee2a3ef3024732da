"""Candles in memory: equal-length columns, oldest first."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Candles:
    """`n` candles of one pair and interval, oldest first.

    open_time_ms: int64 [n], UTC. open, high, low, close: float64 [n], quote currency.
    volume: float64 [n], base currency.
    """

    open_time_ms: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.open_time_ms)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Candles:
        return Candles(*(getattr(self, field.name)[rows] for field in fields(self)))
