"""A plugin of supervisord, which runs it in its own process: it imports nothing else of the project."""

from __future__ import annotations

import time
from typing import Any

from supervisor import events

LONGEST_S = 30.0
TICK_S = 0.2


def limit_pauses(supervisord: Any) -> None:
    """Shorten supervisord's pauses before it starts a program again to 30 s: they grow by a second each, without end.

    It also looks after its programs five times a second and not once, so that a stack starts and stops seconds sooner.
    supervisord calls it as the factory of the plugin.
    """
    events.subscribe(events.ProcessStateBackoffEvent, _shorten)
    poller = supervisord.options.poller
    poll = poller.poll
    poller.poll = lambda timeout: poll(min(timeout, TICK_S))


def _shorten(event: Any) -> None:
    event.process.delay = min(event.process.delay, time.time() + LONGEST_S)
