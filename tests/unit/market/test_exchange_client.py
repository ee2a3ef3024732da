"""The exchange client without an exchange; see also tests/contract/test_exchange.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from make_us_rich.core.errors import MarketUnavailable, PairNotTraded, RateLimited
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.market import exchange
from make_us_rich.market.exchange import ExchangeClient, ExchangeClock, _retry_wait_s, _throttle_wait_s
from tests.support.fixed_response import fixed_response_server


def test_serving_can_import_the_client_without_pandas_or_pyarrow() -> None:
    code = "import make_us_rich.market.exchange, sys; print({'pandas', 'pyarrow', 'torch'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "set()"


@pytest.mark.parametrize(("used", "rest_s"), [(2, 0), (5400, 0), (5401, 40), (6000, 40)])
def test_the_client_waits_for_the_next_minute_before_its_weight_is_used_up(used: int, rest_s: int) -> None:
    assert _throttle_wait_s(used, now_s=1_000_000_000 + 20 - 1_000_000_000 % 60) == rest_s


@pytest.mark.parametrize(("attempt", "least_s", "most_s"), [(1, 0.4, 0.6), (2, 0.8, 1.2), (3, 1.6, 2.4)])
def test_the_client_waits_longer_before_each_retry(attempt: int, least_s: float, most_s: float) -> None:
    waits = [_retry_wait_s(MarketUnavailable("down"), attempt, 30) for _ in range(50)]

    assert all(wait_s is not None and least_s <= wait_s <= most_s for wait_s in waits)
    assert len(set(waits)) > 1, "clients that failed together retry together"


def test_the_client_waits_as_long_as_the_exchange_says_unless_that_is_too_long() -> None:
    assert _retry_wait_s(RateLimited("slow down", retry_after_s=20), 1, max_wait_s=30) == 20
    assert _retry_wait_s(RateLimited("slow down", retry_after_s=31), 1, max_wait_s=30) is None
    assert _retry_wait_s(PairNotTraded("gone"), 1, max_wait_s=30) is None


def test_an_answer_is_returned_at_once_and_the_next_request_waits_for_the_rate_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 1_000_000_000.0 - 1_000_000_000 % 60 + 6
    pauses: list[float] = []
    monkeypatch.setattr(exchange.time, "time", lambda: now_s)
    monkeypatch.setattr(exchange.time, "sleep", pauses.append)
    clock = ExchangeClock()
    clock.note(2 * HOUR_MS)
    body = b'[[0, "1", "1", "1", "1", "1"]]'
    with fixed_response_server(200, body, "application/json", {"X-MBX-USED-WEIGHT-1M": "5800"}) as url:
        client = ExchangeClient(url, clock=clock)
        assert len(client.klines(BITCOIN, Interval.H1, 0, HOUR_MS)) == 1
        assert pauses == []
        client.klines(BITCOIN, Interval.H1, 0, HOUR_MS)
    assert pauses == [54.0]
