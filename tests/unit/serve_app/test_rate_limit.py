from __future__ import annotations

from serve_app.gateway.callers import RateLimiter


def test_a_minutes_calls_may_come_at_once_and_the_next_must_wait() -> None:
    limiter = RateLimiter(calls_per_minute=30)
    assert [limiter.acquire(1) for _ in range(30)] == [0] * 30
    assert limiter.acquire(1) == 2
    assert limiter.acquire(2) == 0, "each user has a bucket"
