"""Hooks and fixtures of all tests: the order of files, and what saves CPU."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import certifi
import pytest
from argon2 import PasswordHasher
from xdist.scheduler import LoadFileScheduling

from make_us_rich.accounts import credentials
from tests.support.servers import stop_shared_servers

pytest_plugins = ["tests.support.recorded_data"]

_END = "-----END CERTIFICATE-----\n"
# Each tuple of folders runs in one process: only one whole stack at a time, and one Airflow for the tests of the DAGs.
_WHOLE_STACKS = ("tests/e2e/", "tests/faults/", "tests/hosts/")
_ONE_AIRFLOW = ("tests/dags/",)
# They come first, longest first, so that no process is busy with one while the others have nothing left to do.
_LONGEST_FIRST = (
    *_WHOLE_STACKS,
    *_ONE_AIRFLOW,
    "tests/contract/test_serving.py",
    "tests/browser/test_with_service.py",
    "tests/contract/test_training_places.py",
    "tests/contract/test_service_faults.py",
    "tests/contract/test_airflow_login.py",
    "tests/contract/test_ray_jobs_operator.py",
    "tests/package/",
    "tests/contract/test_universe.py",
    "tests/contract/test_registry.py",
    "tests/contract/test_pair_training.py",
    "tests/contract/test_housekeeping.py",
    "tests/contract/test_silent_postgres.py",
    "tests/contract/test_dashboard_strangers.py",
    "tests/contract/test_autoscaling.py",
    "tests/contract/test_candles_download.py",
    "tests/contract/test_openapi.py",
    "tests/contract/test_exchange.py",
    "tests/browser/",
    "tests/contract/",
    "tests/infra/",
)


def pytest_configure(config: pytest.Config) -> None:
    """Let HTTP clients load one CA certificate instead of all: 20 ms of CPU less for each client a test makes.

    No test reaches a public server, and those that use TLS make certificates of their own.
    """
    first_certificate = Path(certifi.where()).read_text().partition(_END)[0] + _END
    file = Path(tempfile.mkdtemp(prefix="mur-ca-")) / "ca.pem"
    file.write_text(first_certificate)
    os.environ.setdefault("SSL_CERT_FILE", str(file))
    _make_password_hashes_cheap()


def _make_password_hashes_cheap() -> None:
    """Hash with the smallest parameters of argon2: 0.2 s of CPU less for each account and each guess of a test."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    credentials._HASHER, credentials._DUMMY_HASH = hasher, hasher.hash("nobody's password")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    ranks = [rank for rank, start in enumerate(_LONGEST_FIRST) if nodeid.startswith(start)]
    return min(ranks, default=len(_LONGEST_FIRST))


class _Scheduling(LoadFileScheduling):
    """Give each process one file at a time, and the folders that belong together to one process."""

    def _split_scope(self, nodeid: str) -> str:
        for folders in (_WHOLE_STACKS, _ONE_AIRFLOW):
            if nodeid.startswith(folders):
                return folders[0]
        return str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    return _Scheduling(config, log)


def pytest_sessionfinish() -> None:
    stop_shared_servers()
