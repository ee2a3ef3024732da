"""Stops the clocks by which candles close, so that no test depends on the minute in which it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval

_real_ns = time.time_ns


@contextmanager
def stopped_clocks(exchange_url: str) -> Iterator[int]:
    """Stop this process's `time.time_ns` and the exchange's clock half an hour after a close; gives the time in ms."""
    real_ms = _real_ns() // 1_000_000
    stopped_ms = Interval.H1.last_close_ms(real_ms) + HOUR_MS // 2
    _set_clock(exchange_url, offset_ms=stopped_ms - real_ms, speed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: stopped_ms * 1_000_000)
        yield stopped_ms
    _set_clock(exchange_url, offset_ms=0, speed=1)


def _set_clock(exchange_url: str, *, offset_ms: int, speed: float) -> None:
    change = {"offset_ms": offset_ms, "speed": speed}
    httpx.post(f"{exchange_url}/_control/clock", json=change, timeout=60).raise_for_status()
