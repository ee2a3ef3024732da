"""Temporary folders that servers of other users can enter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def traversable_folder() -> Iterator[Path]:
    """Make a folder with a short path, for sockets, that Postgres's user can enter; pytest's folders are neither."""
    with tempfile.TemporaryDirectory(prefix="mur-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
