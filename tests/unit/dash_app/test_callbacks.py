"""The callbacks of all pages: functions of module level, and JavaScript that is in files."""

from __future__ import annotations

import ast
import re

from dash_app.app import _PAGES, create_app
from dash_app.shell import callbacks as of_the_frame
from make_us_rich.core.settings import Settings
from tests.support.processes import PROJECT_ROOT

_DASHBOARD = PROJECT_ROOT / "dash_app"
_MOST_LINES = 60


def test_each_callback_is_a_short_function_of_module_level() -> None:
    problems = []
    for path in sorted(_DASHBOARD.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > _MOST_LINES:
                problems.append(f"{path.name}: {node.name} is too long")
    for key, callback in create_app(Settings(secret_key="test")).callback_map.items():
        function = callback.get("callback")
        if function and "<locals>" in function.__qualname__:
            problems.append(f"{key}: {function.__qualname__}")
    assert problems == []


def test_the_functions_of_the_browser_are_in_the_assets() -> None:
    scripts = "\n".join(path.read_text() for path in sorted((_DASHBOARD / "assets").glob("*.js")))
    app = create_app(Settings(secret_key="test"))
    named = [each["clientside_function"] for each in app._callback_list if each["clientside_function"]]
    assert len(named) > 15
    for each in named:
        assert each["namespace"] in scripts, each
        assert re.search(rf"\b{each['function_name']}\b: ", scripts), each


def test_two_dashboards_of_one_process_have_the_same_callbacks() -> None:
    one, other = (create_app(Settings(secret_key="test")).callback_map.keys() for _ in range(2))
    assert len(one) > 40
    assert list(one) == list(other)
    assert all(page.callbacks is not of_the_frame for page in _PAGES)
