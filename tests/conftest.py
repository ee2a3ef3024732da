"""What runs in one process, and what begins first, where pytest spreads the tests over several (-n)."""

from __future__ import annotations

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_FOLDERS_WITH_A_STACK = ("dags", "faults")  # shared by all their files
_LONGEST = "faults"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: _group(item) != _LONGEST)


def _group(item: pytest.Item) -> str:
    path = item.path.relative_to(_TESTS)
    return path.parts[0] if path.parts[0] in _FOLDERS_WITH_A_STACK else str(path)
