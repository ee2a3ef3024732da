"""Retry-After may be seconds, a date, or nonsense."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from make_us_rich.core.responses import read_retry_after


@pytest.mark.parametrize("text", [None, "", "nan", "inf", "-1", "soon", "1e999", "Wed, 99 Nov 2026 02:00:00 GMT"])
def test_nonsense_is_no_time(text: str | None) -> None:
    assert read_retry_after(text) is None


def test_seconds_and_dates_are_read() -> None:
    assert read_retry_after("1.5") == 1.5
    assert read_retry_after(formatdate(time.time() + 100, usegmt=True)) == pytest.approx(100, abs=10)
    assert read_retry_after(formatdate(time.time() - 100, usegmt=True)) == 0
