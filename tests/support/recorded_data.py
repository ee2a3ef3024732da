"""The folder of recorded market data, for the tests that use it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.processes import PROJECT_ROOT

DATA = Path(os.environ.get("MUR_TEST_DATA", PROJECT_ROOT.parent / "shared" / "data"))

needs_recorded_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"recorded market data is not at {DATA}; MUR_TEST_DATA names its folder"
)
