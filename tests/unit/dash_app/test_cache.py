"""The cache of what visitors are shown: its size, its expiry, and what it answers while Postgres does not."""

from __future__ import annotations

from psycopg2 import OperationalError
from psycopg2.errors import QueryCanceled

from dash_app import cache as cache_module
from dash_app.cache import Cache


class Clock:
    """A clock that a test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def failing(error: Exception) -> object:
    def compute() -> object:
        raise error

    return compute


def test_it_keeps_a_few_hundred_entries_however_many_keys_visitors_name() -> None:
    cache = Cache()
    for number in range(5000):
        cache.get(("closes", number), lambda: "x" * 1000, ttl_s=60)
    assert len(cache) <= 512


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    clock = Clock()
    cache = Cache(clock)
    for number in range(100):
        cache.get(number, object, ttl_s=20)
    clock.now_s += cache_module._FORGOTTEN_AFTER_S + 1
    assert len(cache) == 0


def test_a_result_is_computed_again_after_its_time_and_the_old_one_is_shown_while_postgres_is_away() -> None:
    clock = Clock()
    cache = Cache(clock)
    assert cache.get("key", lambda: 1, ttl_s=20) == 1
    assert cache.get("key", lambda: 2, ttl_s=20) == 1
    clock.now_s += 21
    assert cache.get("key", failing(OperationalError()), ttl_s=20) == 1
    assert cache.get("key", lambda: 2, ttl_s=20) == 1, "Postgres is not asked again at once"
    clock.now_s += 11
    assert cache.get("key", lambda: 2, ttl_s=20) == 2


def test_a_slow_statement_is_no_outage_for_the_other_results() -> None:
    clock = Clock()
    cache = Cache(clock)
    for key in ("slow", "quick"):
        cache.get(key, lambda: 1, ttl_s=20)
    clock.now_s += 21
    assert cache.get("slow", failing(QueryCanceled()), ttl_s=20) == 1
    assert cache.get("quick", lambda: 2, ttl_s=20) == 2
