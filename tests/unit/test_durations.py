"""The plugin that measures the tests, orders them and keeps their budgets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.durations import ONE_PROCESS, Budget, Durations, longest_first, recorded_budgets, scope_of
from tests.support.processes import PROJECT_ROOT

_SLOW_TEST = """
import time
import pytest

@pytest.fixture
def server():
    time.sleep(0.2)

def test_with_a_server(server):
    pass
"""


def test_the_longest_files_come_first_and_a_folder_that_shares_servers_counts_as_one() -> None:
    budgets = {"tests/unit/a.py": Budget(40, 1), "tests/dags/b.py": Budget(30, 1), "tests/dags/c.py": Budget(20, 1)}
    nodeids = [
        "tests/unit/a.py::test_1",
        "tests/dags/b.py::test_1",
        "tests/dags/c.py::test_1",
        "tests/unit/new.py::test_1",
    ]

    keys = longest_first(nodeids, budgets)

    assert sorted(keys, key=lambda scope: keys[scope]) == ["tests/dags/", "tests/unit/a.py", "tests/unit/new.py"]
    assert scope_of("tests/dags/b.py::test_1[x::y]") == "tests/dags/"


@pytest.mark.parametrize(
    ("seconds", "load", "passed"),
    [(400, 3, True), (400, 30, False), (310, 3, False)],
    ids=["slow on a calm machine", "slow on a busy machine", "slower than recorded"],
)
def test_a_file_passes_its_budget_only_on_a_calm_machine(seconds: float, load: float, passed: bool) -> None:
    durations = Durations()
    durations.tests["tests/unit/a.py::test_1"] = {"setup": 1.0, "call": seconds - 1.0}

    over = durations.over_budget({"tests/unit/a.py": Budget(100, 3)}, load)

    assert bool(over) == passed
    assert not over or "tests/unit/a.py took 400 s; recorded: 100 s" in over


def test_a_run_writes_what_its_tests_fixtures_and_files_took(tmp_path: Path) -> None:
    """Two processes run them, as in `make test`."""
    tests = tmp_path / "tests" / "unit"
    tests.mkdir(parents=True)
    for name in ("a", "b"):
        (tests / f"test_{name}.py").write_text(_SLOW_TEST)
    measured = tmp_path / "measured.json"
    code = (
        "import sys, pytest; from pathlib import Path; from tests.support import durations;"
        f"durations.MEASURED = Path({str(measured)!r}); durations.PROJECT_ROOT = Path({str(tmp_path)!r});"
        "options = ['-n2', '--no-loadscope-reorder', '--budgets', '--rootdir=.'];"
        "plugins = ['-p', 'xdist.plugin', '-p', 'tests.support.durations'];"
        "sys.exit(pytest.main([*options, *plugins, 'tests']))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(PROJECT_ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(measured.read_text())
    assert set(document["files"]) == {"tests/unit/test_a.py", "tests/unit/test_b.py"}
    assert set(document["tests"]["tests/unit/test_a.py::test_with_a_server"]) == {"setup", "call", "teardown"}
    assert sum(document["fixtures"].values()) >= 0.4
    assert document["load"] >= 0
    assert "slowest 20 tests" in done.stdout


def test_the_recorded_files_exist() -> None:
    budgets = recorded_budgets()
    assert budgets
    assert [file for file in budgets if not (PROJECT_ROOT / file).exists()] == []
    for folder in ONE_PROCESS:
        assert (PROJECT_ROOT / folder).is_dir()
