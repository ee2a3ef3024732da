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

_END = "-----END CERTIFICATE-----\n"
# Tests that share what takes long to start run in one process, those that kill programs last.
_SHARE_A_STACK = ("tests/faults/",)
_SHARE_AIRFLOW = ("tests/dags/",)
# They come first, longest first, so that no process is busy with one while the others have nothing left to do.
_LONGEST_FIRST = (
    *_SHARE_A_STACK,
    *_SHARE_AIRFLOW,
    "tests/e2e/test_chain.py",
    "tests/contract/test_serving.py",
    "tests/browser/test_with_service.py",
    "tests/e2e/test_first_version_commands.py",
    "tests/contract/test_training_places.py",
    "tests/contract/test_service_faults.py",
    "tests/contract/test_airflow_login.py",
    "tests/contract/test_ray_jobs_operator.py",
    "tests/package/",
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
    """Give each process one file at a time, and those that share servers to one process."""

    def _split_scope(self, nodeid: str) -> str:
        for shared in (_SHARE_A_STACK, _SHARE_AIRFLOW):
            if nodeid.startswith(shared):
                return shared[0]
        return str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    return _Scheduling(config, log)


def pytest_sessionfinish() -> None:
    stop_shared_servers()
