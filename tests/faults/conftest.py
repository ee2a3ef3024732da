"""One small stack for all faults: a simulated market, three pairs, a short history."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.embedded_stack import EmbeddedStack, embedded_stack

PORT_BASE = 13_300
SETTINGS = {
    "MUR_PAIRS": "btc_usdt,eth_usdt,chz_usdt",
    "MUR_HISTORY_CANDLES": "3000",
    # a dead triggerer's work is taken over after this long
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
}


@pytest.fixture(scope="package")
def stack() -> Iterator[EmbeddedStack]:
    with embedded_stack("simulated", PORT_BASE, SETTINGS) as running:
        running.unpause_without_schedule("train_pairs")
        yield running
