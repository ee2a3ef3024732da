"""What stays together, and what begins first, where pytest spreads the tests over processes (-n)."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

_SHARE_A_STACK = ("tests/dags", "tests/faults")
_LONGEST = "tests/faults"


class ByStack(LoadScopeScheduling):
    """A file is one process's, and so is a folder whose files share a stack."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((folder for folder in _SHARE_A_STACK if path.startswith(folder)), path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStack:
    return ByStack(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))
