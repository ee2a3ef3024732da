"""The console that commands print to, and the form of a progress line."""

from __future__ import annotations

import sys

from rich.console import Console

_PIPED_WIDTH = 160  # rich assumes 80 columns for a pipe, which would cut tables

console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def print_progress(seconds: float, line: str) -> None:
    """Print a line with the seconds since the start in front of it."""
    console.print(f"[dim]{seconds:6.1f} s[/dim]  {line}")
