"""The check of `mkrich doctor` that only the embedded stack has: programs that are down, or end again and again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.embedded.supervisor import ProgramState
from make_us_rich.operations.health import HealthResult

_WITHIN = timedelta(minutes=10)
_LOOP = 3  # ends within that time
_READ_BYTES = 200_000  # of the log's end; a line of it has about 100
_ENDED = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ \w+ exited: (\S+) \(", re.M)


def check_programs(config: StackConfig) -> HealthResult:
    """Return whether every program that was started runs, and did not end several times within ten minutes."""
    states = lifecycle.status(config)
    if not states:
        return HealthResult("programs", "failed", "the stack is down", "`mkrich up` starts it")
    return judge(states, ends(config, datetime.now(UTC)))


def judge(states: Sequence[ProgramState], ended: Counter[str]) -> HealthResult:
    """Judge the states of supervisord and how often each program ended. A program that was stopped is no problem."""
    down = {state.name: f"{state.name} is {state.state}" for state in states if state.is_down}
    loops = {
        name: f"{name} ended {count} times within {_WITHIN.seconds // 60} minutes"
        for name, count in sorted(ended.items())
        if count >= _LOOP and name not in down
    }
    if not down and not loops:
        running = sum(state.state == "RUNNING" for state in states)
        return HealthResult("programs", "ok", f"{running} programs of the stack are running")
    name = next(iter({**down, **loops}))
    way_out = f"`mkrich logs {name}` says why{'; then `mkrich up` starts it' if down else ''}"
    return HealthResult("programs", "failed", "; ".join([*down.values(), *loops.values()]), way_out)


def ends(config: StackConfig, now: datetime) -> Counter[str]:
    """Count by program how often it ended by itself within ten minutes, from supervisord's log, in local time."""
    path = lifecycle.log_path(config, "supervisord")
    if not path.exists():
        return Counter()
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _READ_BYTES))
        text = file.read().decode(errors="replace")
    return Counter(
        name for time, name in _ENDED.findall(text) if now - datetime.fromisoformat(time).astimezone() <= _WITHIN
    )
