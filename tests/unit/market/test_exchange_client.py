"""The exchange client without an exchange; see also tests/contract/test_exchange.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from make_us_rich.core.errors import MarketUnavailable, PairNotTraded, RateLimited
from make_us_rich.market.exchange import _retry_wait_s, _throttle_wait_s


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
