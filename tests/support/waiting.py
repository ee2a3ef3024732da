"""Waits for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def wait_until(done: Callable[[], T], timeout_s: float, message: str) -> T:
    """Poll until `done` returns something true; returns it. An exception counts as false: a program may be down."""
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(Exception):
            found = done()
            if found:
                return found
        assert time.monotonic() < deadline, f"{message} after {timeout_s:.0f} s"
        time.sleep(0.3)
