"""A run of the tests without recorded candles says which tests it left out, and the command that makes them run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import PROJECT_ROOT

FILE = "tests/unit/market/test_recordings.py"


@pytest.mark.slow
def test_tests_without_their_data_are_counted_and_named(tmp_path: Path) -> None:
    """Also where a process of its own runs them, as in `make test`."""
    plugins = ["-p", "xdist.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", FILE, *plugins, "-m", "recorded", "-n", "1"]
    environment = os.environ | {"MUR_TEST_DATA": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=PROJECT_ROOT, check=True)

    assert "not run for lack of data: 1" in done.stdout
    assert "`make data`" in done.stdout
    assert f"{FILE}: 1 (klines-15m and klines-1h)" in done.stdout
