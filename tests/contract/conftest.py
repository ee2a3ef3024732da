"""What several files need. Each file has servers of its own or gets empty ones, once a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from make_us_rich.market import exchange
from tests.support.clocks import stopped_clocks
from tests.support.folders import traversable_folder
from tests.support.servers import exchange_server, migrated_database

if TYPE_CHECKING:
    from tests.support.local_api import LocalApi


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with traversable_folder() as made:
        yield made


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with migrated_database() as url:
        yield url


@pytest.fixture(scope="module")
def exchange_url() -> Iterator[str]:
    with exchange_server() as url:
        yield url


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry requests to the exchange after hundredths of a second."""
    monkeypatch.setattr(exchange, "_FIRST_RETRY_S", 0.01)


@pytest.fixture
def now_ms(exchange_url: str) -> Iterator[int]:
    """Stop the clocks of the exchange and of this process; gives their time."""
    with stopped_clocks(exchange_url) as stopped_ms:
        yield stopped_ms


@pytest.fixture(scope="module")
def service() -> Iterator[LocalApi]:
    """Run the HTTP API of two pairs."""
    from tests.support.local_api import local_api  # takes two seconds, which most files do not need

    with traversable_folder() as folder, local_api(folder, ("btc_usdt", "eth_usdt")) as api:
        yield api
