"""Folders that servers of other users may enter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def traversable_folder() -> Iterator[Path]:
    """Short, for sockets, and open to Postgres's unprivileged user, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory(prefix="mur-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
