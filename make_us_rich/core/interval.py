"""Candle intervals, and the grid of times on which candles open and close.

A candle is identified by its open time. It closes one interval later, when the next one opens.
Source of the names: https://developers.binance.com/docs/binance-spot-api-docs/enums
"""

from __future__ import annotations

import re
from enum import StrEnum

from make_us_rich.core.errors import InputError

HOUR_MS = 3_600_000

_LEAST_WINDOW = 24
_UNIT_MS = {"m": HOUR_MS // 60, "h": HOUR_MS, "d": 24 * HOUR_MS, "w": 168 * HOUR_MS}


class Interval(StrEnum):
    """A candle interval by Binance's name, such as `1h`. It is also a string, so it can be written as it is."""

    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    D1 = "1d"

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read `1h`. Raises InputError for an unknown name."""
        try:
            return cls(text)
        except ValueError:
            known = ", ".join(cls)
            raise InputError(f"unknown interval {text[:20]!r}: use one of {known}", field="interval") from None

    @classmethod
    def parse_trained(cls, text: str) -> Interval:
        """Read an interval that models are trained on. Raises InputError for any other."""
        if text not in TRAINING_CANDLES:
            known = ", ".join(TRAINING_CANDLES)
            raise InputError(f"no model is trained on candles of {text[:20]!r}: use one of {known}", field="interval")
        return cls(text)

    @property
    def ms(self) -> int:
        """Length in milliseconds."""
        return int(self[:-1]) * _UNIT_MS[self[-1]]

    def last_close_ms(self, at_ms: int) -> int:
        """Return the newest close at or before `at_ms`. The candle that closed then opened one interval earlier."""
        return at_ms - at_ms % self.ms


TRAINING_CANDLES = {Interval.M15: 10_128, Interval.H1: 10_200, Interval.H4: 5_136, Interval.D1: 1_628}
"""The intervals that models are trained on, and how many candles a training reads: the sum of its TrainingConfig."""


def duration_ms(text: str) -> int:
    """Read `5w`, `35d` or `840h` and return milliseconds. Raises InputError for anything else."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text)
    if found is None:
        raise InputError(f"{text[:20]!r} is not a duration: write 5w, 35d or 840h", field="every")
    return int(found[1]) * _UNIT_MS[found[2]]


def windows_between(from_ms: int, to_ms: int, every_ms: int, interval: Interval) -> list[int]:
    """Return the open times of consecutive windows on the grid, each `every_ms` long, the last one closed by `to_ms`.

    Raises InputError when a window is too short or not a whole number of candles, or when none fits.
    """
    step = interval.ms
    if every_ms < _LEAST_WINDOW * step or every_ms % step:
        raise InputError(
            f"a window must be whole candles of {interval}, {_LEAST_WINDOW} at least: make it longer", field="every"
        )
    first = -(-from_ms // step) * step
    found = list(range(first, to_ms - every_ms + 1, every_ms))
    if not found:
        raise InputError("no whole window fits between `from` and `to`: move them apart", field="to")
    return found
