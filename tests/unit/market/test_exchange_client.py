"""The exchange client without an exchange; see also tests/contract/test_exchange.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from make_us_rich.market.exchange import _throttle_wait_s


def test_serving_can_import_the_client_without_pandas_or_pyarrow() -> None:
    code = "import make_us_rich.market.exchange, sys; print({'pandas', 'pyarrow', 'torch'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "set()"


@pytest.mark.parametrize(("used", "rest_s"), [(2, 0), (5400, 0), (5401, 40), (6000, 40)])
def test_the_client_waits_for_the_next_minute_before_its_weight_is_used_up(used: int, rest_s: int) -> None:
    assert _throttle_wait_s(used, now_s=1_000_000_000 + 20 - 1_000_000_000 % 60) == rest_s
