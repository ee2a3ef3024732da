"""The exchange's clock: the machine's clock, which can be moved and sped up."""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict, Field


class ClockChange(BaseModel):
    """A change of the clock; an absent field stays as it is."""

    model_config = ConfigDict(extra="forbid")

    offset_ms: int | None = None
    speed: float | None = Field(default=None, ge=0, le=100_000)


class Clock:
    def __init__(self) -> None:
        self._speed = 1.0
        self._set(self._real_ms())

    def now_ms(self) -> int:
        """Return the exchange's time."""
        return self._from_ms + int((self._real_ms() - self._since_ms) * self._speed)

    def change(self, change: ClockChange) -> None:
        """Move the clock to `offset_ms` from the machine's clock, and set its speed from now on."""
        self._set(self.now_ms() if change.offset_ms is None else self._real_ms() + change.offset_ms)
        if change.speed is not None:
            self._speed = change.speed

    def _set(self, now_ms: int) -> None:
        self._since_ms = self._real_ms()
        self._from_ms = now_ms

    def _real_ms(self) -> int:
        return time.time_ns() // 1_000_000
