from __future__ import annotations

from serve_app.gateway.auth import RateLimit


def test_a_minutes_calls_may_come_at_once_and_then_one_waits() -> None:
    limit = RateLimit(calls_per_minute=30)
    assert [limit.take(1) for _ in range(30)] == [0] * 30
    assert limit.take(1) == 2
    assert limit.take(2) == 0, "another user's bucket is another one"
