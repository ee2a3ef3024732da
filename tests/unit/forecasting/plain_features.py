"""The features in plain Python, one candle at a time, as an independent check of the vectorised ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from make_us_rich.core.interval import Interval

Candle = Sequence[float]  # open, high, low, close, volume, hour of week

_TINY = 1e-5


@dataclass(frozen=True)
class Windows:
    """In candles; `coming`: the horizons with a volatility of their times of day."""

    hours: float
    ranges: tuple[int, ...]
    reference: tuple[int, ...]
    volumes: tuple[int, ...]
    moves: tuple[int, ...]
    recent: int
    usual: int
    coming: tuple[int, ...]

    @property
    def warmup(self) -> int:
        return max(self.ranges)


_GRID = (1, 2, 3, 4, 6, 8, 12, 18, 24)
WINDOWS = {
    Interval.M15: Windows(
        0.25, (1, 4, 12, 24, 96, 288, 672, 1344), (1, 4, 24, 96, 672), (1, 4, 24), (1, 4, 12, 48, 192), 96, 672, _GRID
    ),
    Interval.H1: Windows(1, (1, 3, 6, 24, 72, 168, 720), (1, 6, 24, 168), (1, 6), (1, 3, 12, 48), 24, 168, _GRID),
    Interval.H4: Windows(4, (1, 6, 18, 42, 180, 540), (1, 6, 42), (1,), (1, 3, 12), 6, 42, (1, 2, 3, 4, 6)),
    Interval.D1: Windows(24, (1, 3, 7, 30, 60), (1, 3, 7, 30), (1, 3), (1, 3, 7), 7, 30, ()),
}


def features_at(
    candles: Sequence[Candle], reference: Sequence[Candle], row: int, windows: Windows
) -> tuple[list[float], list[float]]:
    """Compute (sequence features, static features) of one candle that has the warm-up before it."""
    own, btc = _Features(candles, row, windows), _Features(reference, row, windows)
    recent, usual, longest = windows.recent, windows.usual, windows.warmup
    deviation, btc_deviation = math.exp(0.5 * own.log_range(recent)), math.exp(0.5 * btc.log_range(recent))
    coming = [own.log_same_times(range(1, ahead + 1)) for ahead in windows.coming]
    unusual = [own.log_range(1) - own.log_same_times([0])] if coming else []
    calendar = _calendar(candles[row], windows.hours)
    sequence = [
        own.move(1, deviation),
        own.close_in_range(),
        own.log_range(1) - own.log_range(usual),
        own.log_range(recent) - own.log_range(usual),
        own.relative_volume(1),
        btc.move(1, btc_deviation),
        btc.log_range(1) - btc.log_range(recent),
        *unusual,
        *([coming[0] - own.log_range(longest)] if coming else []),
        *calendar,
    ]
    static = [
        *(own.log_range(window) for window in windows.ranges),
        *(own.log_square(window) for window in (recent, usual, longest)),
        own.log_fall(recent),
        *(btc.log_range(window) for window in windows.reference),
        *coming,
        *unusual,
        *(own.relative_volume(window) for window in windows.volumes),
        own.close_in_range(),
        *(own.move(window, deviation) for window in windows.moves),
        *(btc.move(window, btc_deviation) for window in windows.moves),
        btc.close_in_range(),
        *calendar,
    ]
    return sequence, static


class _Features:
    def __init__(self, candles: Sequence[Candle], row: int, windows: Windows) -> None:
        self._candles = candles
        self._row = row
        self._windows = windows

    def log_range(self, window: int) -> float:
        return 2 * self._log_mean([self._range(at) for at in self._last(window)], _TINY)

    def log_square(self, window: int) -> float:
        return self._log_mean([self._change(at) ** 2 for at in self._last(window)], _TINY**2)

    def log_fall(self, window: int) -> float:
        return self._log_mean([min(self._change(at), 0.0) ** 2 for at in self._last(window)], _TINY**2)

    def log_same_times(self, ahead: Iterable[int]) -> float:
        day = int(24 / self._windows.hours)
        days = range(1, self._windows.warmup // day + 1)
        ranges = [self._range(self._row + candles - day * past) for candles in ahead for past in days]
        return 2 * self._log_mean(ranges, _TINY)

    def move(self, window: int, deviation: float) -> float:
        total = sum(self._change(at) for at in self._last(window))
        return _clip(total / (deviation * math.sqrt(window)), 8.0)

    def relative_volume(self, window: int) -> float:
        recent = sum(self._candles[at][4] for at in self._last(window)) / window
        usual = sum(self._candles[at][4] for at in self._last(self._windows.usual)) / self._windows.usual
        return _clip(math.log(recent / (usual + 1e-30) + 1e-3), 8.0)

    def close_in_range(self) -> float:
        _, high, low, close, *_ = self._candles[self._row]
        return min(max((close - low) / (high - low + close * 1e-7), 0.0), 1.0) - 0.5

    def _last(self, window: int) -> range:
        return range(self._row - window + 1, self._row + 1)

    def _change(self, at: int) -> float:
        if at == 0:
            return 0.0
        return _clip(math.log(self._candles[at][3] / self._candles[at - 1][3]), 0.25)

    def _range(self, at: int) -> float:
        """Return Parkinson's range deviation."""
        _, high, low, *_ = self._candles[at]
        return min(math.log(high / low), 0.25) / math.sqrt(4 * math.log(2))

    @staticmethod
    def _log_mean(values: list[float], smallest: float) -> float:
        return math.log(sum(values) / len(values) + smallest)


def _calendar(candle: Candle, hours: float) -> list[float]:
    upcoming = (candle[5] + hours) % 168
    if hours == 24:
        week = upcoming * 2 * math.pi / 168
        return [math.sin(week), math.cos(week), 1.0 if upcoming >= 120 else 0.0]
    day = upcoming * 2 * math.pi / 24
    return [math.sin(day), math.cos(day), math.sin(2 * day), math.cos(2 * day), 1.0 if upcoming >= 120 else 0.0]


def _clip(value: float, most: float) -> float:
    return min(max(value, -most), most)
