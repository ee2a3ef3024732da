"""Hooks of all tests: measured durations and what saves CPU."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import certifi
import pytest
from argon2 import PasswordHasher

from make_us_rich.accounts import credentials
from tests.support.servers import stop_shared_servers

pytest_plugins = ["tests.support.durations", "tests.support.recorded_data"]

_END = "-----END CERTIFICATE-----\n"


def pytest_configure(config: pytest.Config) -> None:
    """Let HTTP clients load one CA certificate instead of all: 20 ms of CPU less for each client a test makes.

    No test reaches a public server, and those that use TLS make certificates of their own.
    """
    first_certificate = Path(certifi.where()).read_text().partition(_END)[0] + _END
    folder = tempfile.TemporaryDirectory(prefix="mur-ca-")
    config.add_cleanup(folder.cleanup)
    file = Path(folder.name) / "ca.pem"
    file.write_text(first_certificate)
    os.environ.setdefault("SSL_CERT_FILE", str(file))
    _make_password_hashes_cheap()


def _make_password_hashes_cheap() -> None:
    """Hash with the smallest parameters of argon2: 0.2 s of CPU less for each account and each guess of a test."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    credentials._HASHER, credentials._DUMMY_HASH = hasher, hasher.hash("nobody's password")


def pytest_sessionfinish() -> None:
    stop_shared_servers()
