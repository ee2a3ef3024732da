"""Ask everything that an installation stands on whether it works, and say the way out where it does not."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import httpx
import psycopg2

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.responses import UNEXPECTED
from make_us_rich.core.settings import Settings
from make_us_rich.operations.doctor_checks import CHECKS, HealthProblem

FAILED = "failed"
_IS_IT_UP = "is it up? `mkrich status`, `mkrich logs {0}`, or `docker compose ps`; {1} says where it is sought"
_WHO_IS_IT = "is the address in {0} right, or does a proxy answer in its place?"


@dataclass(frozen=True)
class Finding:
    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str
    way_out: str


def examine(settings: Settings) -> list[Finding]:
    """All checks at once; none waits longer than its dependency's own time limit, 10 to 30 s."""
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        return list(pool.map(lambda item: _examined(settings, *item), CHECKS.items()))


def _examined(settings: Settings, name: str, check: tuple[Callable[[Settings], str], str]) -> Finding:
    ask, variable = check
    try:
        return Finding(name, "ok", ask(settings), "")
    except HealthProblem as ailment:
        return Finding(name, "warning" if ailment.warning else "failed", str(ailment), ailment.way_out)
    except ModuleNotFoundError as error:
        return Finding(name, "warning", f"not asked: {error.name} is not installed in this role", "")
    except (MakeUsRichError, psycopg2.Error, httpx.HTTPError) as error:
        return Finding(name, "failed", str(error).strip() or repr(error), _IS_IT_UP.format(name, variable))
    except UNEXPECTED as error:
        return Finding(name, "failed", f"it answers something unexpected: {error!r}", _WHO_IS_IT.format(variable))
