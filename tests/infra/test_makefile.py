"""What the Makefile passes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.processes import PROJECT_ROOT


@pytest.mark.parametrize("folder", ["my klines", 'it\'s "mine"; exit', "a%b #c", "ü 币"])
@pytest.mark.parametrize(
    ("target", "variable", "program"), [("demo", "DATA", "mkrich"), ("foundation", "CANDLES", "python")]
)
def test_a_folder_of_any_name_reaches_the_command(
    tmp_path: Path, target: str, variable: str, program: str, folder: str
) -> None:
    said = tmp_path / program
    said.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    said.chmod(0o755)
    made = ["INSTALLED=installed", "CHARTS=charts", "-o", "installed", "-o", "charts"]

    done = subprocess.run(
        ["make", "-s", target, f"BIN={tmp_path}", *made, f"{variable}={folder}"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == folder
