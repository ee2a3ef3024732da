"""Recorded candles for the tests that need them: `@pytest.mark.recorded("klines-1h")` names folders of `recorded.json`.

A test whose folder is incomplete is not run. Such tests are counted and named at the end, with the command that
downloads what they need.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import PROJECT_ROOT

_GIVEN = os.environ.get("MUR_TEST_DATA")
_PLACES = [Path(_GIVEN)] if _GIVEN else [PROJECT_ROOT / "data", PROJECT_ROOT.parent / "shared" / "data"]


@cache
def _find(name: str) -> Path | None:
    from tests.support.recorded_files import read_list  # takes a second, which most tests do not need

    (recording,) = (item for item in read_list() if item.folder == name)
    return next((place / name for place in _PLACES if not recording.problems(place)), None)


def recorded(name: str) -> Path:
    """Return the folder of recorded candles of that name. For tests with the mark `recorded`."""
    found = _find(name)
    assert found is not None, f"the test lacks the mark recorded({name!r})"
    return found


def not_downloaded(what: str) -> str:
    """Return the reason why a test is not run that `pytest_terminal_summary` finds again."""
    return f"needs {what}: run `make data`"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    names = [name for mark in item.iter_markers("recorded") for name in mark.args]
    missing = [name for name in names if _find(name) is None]
    if missing:
        pytest.skip(not_downloaded(" and ".join(missing)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lacking: Counter[tuple[str, str]] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = re.search(not_downloaded("(.+)"), str(report.longrepr))
        if reason:
            lacking[report.nodeid.partition("::")[0], reason[1]] += 1
    if lacking:
        terminalreporter.section(f"not run for lack of data: {lacking.total()}", yellow=True)
        terminalreporter.line("`make data` downloads the data, and names the source of what it cannot download.")
        for (file, what), tests in sorted(lacking.items()):
            terminalreporter.line(f"  {file}: {tests} ({what})")
