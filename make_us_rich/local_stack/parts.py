"""The parts of the stack that can be started and stopped alone: serving, training, interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

Part = Literal["serving", "training", "interface"]

AIRFLOW = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")

PROGRAMS: Mapping[Part, Sequence[str]] = {"serving": (), "training": AIRFLOW, "interface": ("dash",)}
"""What only this part needs. Serving is an application on Ray, which training needs too."""

_STARTS: Mapping[Part, Sequence[str]] = {
    "serving": ("serving", "discord"),
    "training": (*AIRFLOW, "ray", "mlflow", "buckets", "accounts", "exchange", "discord"),
    "interface": ("dash",),
}


def needed(part: Part, after: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the components and steps of a part, and all that they wait for. `after`: what each one waits for."""
    found: set[str] = set()
    waiting = [name for name in _STARTS[part] if name in after]  # the live market has no exchange of its own
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += after[name]
    return found
