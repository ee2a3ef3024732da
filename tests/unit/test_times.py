"""Times in milliseconds, and as text in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from make_us_rich.core.times import from_ms, iso_text, to_ms, utc_text

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_time_becomes_milliseconds_and_back() -> None:
    assert from_ms(to_ms(NOON)) == NOON
    assert to_ms(NOON.astimezone(timezone(timedelta(hours=5)))) == to_ms(NOON)
    assert to_ms(NOON.replace(tzinfo=None)) == to_ms(NOON)  # no zone means UTC


def test_texts_are_in_utc() -> None:
    assert utc_text(to_ms(NOON)) == "2026-01-31 12:00 UTC"
    assert iso_text(to_ms(NOON) + 999) == "2026-01-31T12:00:00Z"
    assert utc_text(17) == "17 ms"
    assert utc_text(1 << 60) == f"{1 << 60} ms"  # a time that no datetime can hold
