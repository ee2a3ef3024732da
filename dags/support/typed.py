"""Types for what tasks hand to each other, which Airflow stores as JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from pydantic import validate_call
from pydantic_core import to_jsonable_python


def typed(function: Callable[..., object]) -> Callable[..., Any]:
    """Parse a task's arguments by their annotations, and return its result as JSON, because XCom holds only JSON.

    Put it below `@task`. In the DAG file a task is called with XComArgs, so the wrapper accepts anything.
    """
    parsed = validate_call(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return to_jsonable_python(parsed(*args, **kwargs))

    return call
