"""Times in milliseconds since 1970: the current one, from and to datetimes, and as text, which is UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from make_us_rich.core.errors import InputError

EARLIEST_MS = 1_230_768_000_000  # 2009-01-01: no coin was traded before
LATEST_MS = 4_102_444_800_000  # 2100-01-01: a later time is not in milliseconds


def current_ms() -> int:
    return time.time_ns() // 1_000_000


def to_ms(moment: datetime) -> int:
    """Return the milliseconds of a datetime, which is UTC where it names no zone."""
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def from_ms(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def utc_text(time_ms: int) -> str:
    """Return a time for people, such as `2026-01-31 12:00 UTC`; one that no candle can have as `17 ms`."""
    return f"{from_ms(time_ms):%Y-%m-%d %H:%M} UTC" if is_possible(time_ms) else f"{time_ms} ms"


def iso_text(time_ms: int) -> str:
    """Return a time for programs, to the second: `2026-01-31T12:00:00Z`."""
    return f"{from_ms(time_ms):%Y-%m-%dT%H:%M:%SZ}"


def is_possible(time_ms: int) -> bool:
    """Return whether a candle can have that open time."""
    return EARLIEST_MS <= time_ms < LATEST_MS


def past_time(text: str) -> datetime:
    """Read `2026-01-31T12:00:00Z`, in UTC where no zone is written. Raises InputError for a future time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text[:40]!r} is not a time: write 2026-01-31T12:00:00Z", field="as_of") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > datetime.now(UTC):
        raise InputError(f"{text} is in the future: name a past time, or leave it empty", field="as_of")
    return moment
