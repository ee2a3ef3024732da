"""What several files need. Each file has servers of its own or gets empty ones, once a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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


@pytest.fixture(scope="module")
def service() -> Iterator[LocalApi]:
    """Run the HTTP API of two pairs."""
    from tests.support.local_api import local_api  # takes two seconds, which most files do not need

    with traversable_folder() as folder, local_api(folder, ("btc_usdt", "eth_usdt")) as api:
        yield api
