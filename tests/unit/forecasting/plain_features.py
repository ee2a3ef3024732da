"""The features in plain Python, one candle at a time, as an independent check of the vectorised ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from make_us_rich.forecasting.features import WARMUP

Candle = Sequence[float]  # open, high, low, close, volume, hour of week

_TINY = 1e-10


def features_at(candles: Sequence[Candle], reference: Sequence[Candle], row: int) -> tuple[list[float], list[float]]:
    """Compute (sequence features, static features) of one candle that has WARMUP candles before it."""
    own, btc = _Features(candles, row), _Features(reference, row)
    day, btc_day = math.exp(0.5 * own.log_range(24)), math.exp(0.5 * btc.log_range(24))
    coming, usual = own.log_same_hour(1), own.log_same_hour(0)
    unusual = own.log_range(1) - usual
    calendar = _calendar(candles[row])
    sequence = [
        own.move(1, day),
        own.close_in_range(),
        own.log_range(1) - own.log_range(168),
        own.log_range(24) - own.log_range(168),
        own.relative_volume(1),
        btc.move(1, btc_day),
        btc.log_range(1) - btc.log_range(24),
        unusual,
        coming - own.log_range(WARMUP),
        *calendar,
    ]
    static = [
        *(own.log_range(hours) for hours in (1, 3, 6, 24, 72, 168, WARMUP)),
        *(own.log_square(hours) for hours in (24, 168, WARMUP)),
        own.log_fall(24),
        *(btc.log_range(hours) for hours in (1, 6, 24, 168)),
        coming,
        unusual,
        own.relative_volume(1),
        own.relative_volume(6),
        own.close_in_range(),
        *(own.move(hours, day) for hours in (1, 3, 12, 48)),
        *(btc.move(hours, btc_day) for hours in (1, 3, 12, 48)),
        btc.close_in_range(),
        *calendar,
    ]
    return sequence, static


class _Features:
    def __init__(self, candles: Sequence[Candle], row: int) -> None:
        self._candles = candles
        self._row = row

    def log_range(self, hours: int) -> float:
        return self._log_mean([self._range(at) for at in self._last(hours)])

    def log_square(self, hours: int) -> float:
        return self._log_mean([self._change(at) ** 2 for at in self._last(hours)])

    def log_fall(self, hours: int) -> float:
        return self._log_mean([min(self._change(at), 0.0) ** 2 for at in self._last(hours)])

    def log_same_hour(self, ahead: int) -> float:
        days = range(1, WARMUP // 24 + 1)
        return self._log_mean([self._range(self._row + ahead - 24 * day) for day in days])

    def move(self, hours: int, deviation: float) -> float:
        total = sum(self._change(at) for at in self._last(hours))
        return _clip(total / (deviation * math.sqrt(hours)), 8.0)

    def relative_volume(self, hours: int) -> float:
        recent = sum(self._candles[at][4] for at in self._last(hours)) / hours
        week = sum(self._candles[at][4] for at in self._last(168)) / 168
        return _clip(math.log(recent / (week + 1e-30) + 1e-3), 8.0)

    def close_in_range(self) -> float:
        _, high, low, close, *_ = self._candles[self._row]
        return min(max((close - low) / (high - low + close * 1e-7), 0.0), 1.0) - 0.5

    def _last(self, hours: int) -> range:
        return range(self._row - hours + 1, self._row + 1)

    def _change(self, at: int) -> float:
        if at == 0:
            return 0.0
        return _clip(math.log(self._candles[at][3] / self._candles[at - 1][3]), 0.25)

    def _range(self, at: int) -> float:
        """Return Parkinson's range variance."""
        _, high, low, *_ = self._candles[at]
        return min(math.log(high / low), 0.25) ** 2 / (4 * math.log(2))

    @staticmethod
    def _log_mean(values: list[float]) -> float:
        return math.log(sum(values) / len(values) + _TINY)


def _calendar(candle: Candle) -> list[float]:
    upcoming = (candle[5] + 1) % 168
    day = upcoming * 2 * math.pi / 24
    return [math.sin(day), math.cos(day), math.sin(2 * day), math.cos(2 * day), 1.0 if upcoming >= 120 else 0.0]


def _clip(value: float, most: float) -> float:
    return min(max(value, -most), most)
