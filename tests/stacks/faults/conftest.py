"""One small stack for all faults: a simulated market, three pairs, a short history; started one component at a time."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.embedded_stack import EmbeddedStack, embedded_stack

SETTINGS = {
    "MUR_PAIRS": "btc_usdt,eth_usdt,chz_usdt",
    "MUR_HISTORY_CANDLES": "3000",
    # a dead triggerer's work is taken over after this long
    "MUR_STACK_ENV_AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
}
SERVICES = ("interface", "serving", "training")


@pytest.fixture(scope="package")
def programs_after() -> dict[str, set[str]]:
    """The programs that ran after each command that started the stack."""
    return {}


@pytest.fixture(scope="package")
def stack(programs_after: dict[str, set[str]]) -> Iterator[EmbeddedStack]:
    def start(stack: EmbeddedStack) -> None:
        for service in SERVICES:
            assert f"mkrich run {service}" in stack.did("init", service)
        programs_after["init"] = stack.running_programs()
        assert stack.config.url("dash") in stack.did("run", "interface")
        programs_after["interface"] = stack.running_programs()
        assert httpx.get(f"{stack.config.url('dash')}/login", timeout=30).status_code == 200
        assert stack.config.url("api") in stack.did("run", "SERVING")
        programs_after["serving"] = stack.running_programs()
        assert httpx.get(stack.config.url("api"), follow_redirects=True, timeout=30).url.path == "/docs"
        assert "mkrich start agent" in stack.did("run", "training")
        programs_after["training"] = stack.running_programs()

    with embedded_stack("simulated", SETTINGS, start=start) as running:
        running.unpause_without_schedule("train_pairs")
        yield running
