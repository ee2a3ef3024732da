"""Waits for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def wait_until(done: Callable[[], T], timeout_s: float, message: str) -> T:
    """Poll until `done` returns something true; returns it. An exception counts as false: a program may be down."""

    def done_or_down() -> T | None:
        with suppress(Exception):
            return done()
        return None

    found = wait_without_fault_until(done_or_down, timeout_s, message)
    assert found is not None
    return found


def wait_without_fault_until(done: Callable[[], T], timeout_s: float, message: str) -> T:
    """Poll until `done` returns something true; returns it. Raises what `done` raises: no call may fail meanwhile.

    Polls less and less often, at least once a second: each poll of Airflow takes CPU from what it waits for.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.1
    while not (found := done()):
        assert time.monotonic() < deadline, f"{message} after {timeout_s:.0f} s"
        time.sleep(pause_s)
        pause_s = min(1.0, pause_s * 1.3)
    return found
