"""One Ray head with Serve for all files of this folder, which run in one process: only the configuration changes."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from make_us_rich.pipeline.deployment import apply
from tests.support.folders import traversable_folder
from tests.support.polling import polling
from tests.support.serving_servers import ServingServers, serving_servers
from tests.support.tiny_model import tiny_model

# More than the burst of calls with which a test uses up a month; a test of the limit itself uses up a minute.
CALLS_PER_MINUTE = 300


@pytest.fixture(scope="package")
def serving() -> Iterator[ServingServers]:
    """Deploy two pairs with a model each, and one without; `first_answers` has what callers got meanwhile."""
    environment = {"MUR_PAIRS": "btc_usdt,eth_usdt,chz_usdt", "MUR_CALLS_PER_MINUTE": str(CALLS_PER_MINUTE)}
    with traversable_folder() as folder, serving_servers(folder, environment) as servers:
        for pair in ("btc_usdt", "eth_usdt"):
            servers.promote(pair, tiny_model(pair))
        with polling(f"{servers.settings.api_url}/v1/pairs", every_s=0.05) as first_answers:
            apply(servers.settings)
        servers.first_answers.counts.update(first_answers.counts)
        yield servers


@pytest.fixture
def api(serving: ServingServers) -> Iterator[httpx.Client]:
    """Give a client with the admin's token."""
    headers = {"Authorization": f"Bearer {serving.admin_token}"}
    with httpx.Client(base_url=serving.settings.api_url, headers=headers, timeout=30) as client:
        yield client
