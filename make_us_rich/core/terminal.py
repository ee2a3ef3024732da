"""The console that commands print to."""

from __future__ import annotations

import sys

from rich.console import Console

_PIPED_WIDTH = 160  # rich assumes 80 columns for a pipe, which would cut tables

console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
