"""Where people read what we tell them."""

from __future__ import annotations

import sys

from rich.console import Console

_PIPED_WIDTH = 160  # a pipe has no width, and the usual guess of 80 would cut tables

console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
