"""What makes a stack the same one for every command: a file in its state folder, not the caller's environment.

A command may run with another TMPDIR, another user's rights, another working folder or through a symbolic link than the
one that started the stack, and the folder may have been moved meanwhile. A copy of the folder is another stack.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

_FILE = "identity.json"
_LONGEST = 18  # of the folder for temporary files: HAProxy's sockets, 79 characters further down, allow 97
_PLAIN = r"[A-Za-z0-9/._-]+"  # what the configuration of every program takes unquoted


@dataclass(frozen=True)
class Identity:
    """The id that every process of the stack has in its environment, and the folder of its sockets."""

    stack_id: str
    runtime: Path


def identity_of(state: Path) -> Identity:
    """Return the identity that the last start wrote; where none did, that which a start would choose."""
    try:
        saved = json.loads((state / _FILE).read_text())
        if saved["folder"] == _folder_number(state):
            return Identity(saved["stack_id"], Path(saved["runtime"]))
    except (OSError, ValueError, LookupError):
        pass
    return Identity(str(state), _runtime_here(state))


def new_identity(state: Path) -> Identity:
    """Return the identity of a new start: sockets go into this process's folder for temporary files."""
    known = identity_of(state)
    stack_id = secrets.token_hex(8) if known.stack_id == str(state) else known.stack_id
    return Identity(stack_id, _runtime_here(state))


def save_identity(state: Path, identity: Identity) -> None:
    state.mkdir(parents=True, exist_ok=True)
    fields = {key: str(value) for key, value in asdict(identity).items()}
    write_beside(state / _FILE, json.dumps(fields | {"folder": _folder_number(state)}, indent=1))


def write_beside(path: Path, text: str) -> None:
    """Replace a file at once, so that no other command reads half of it, and a full disk leaves the old one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _runtime_here(state: Path) -> Path:
    digest = hashlib.sha256(f"{os.getuid()} {state}".encode()).hexdigest()[:8]
    folder = tempfile.gettempdir()
    usable = len(folder) <= _LONGEST and re.fullmatch(_PLAIN, folder)
    return Path(folder if usable else "/tmp") / f"mur-{digest}"


def _folder_number(state: Path) -> str:
    """Return what a moved folder keeps and a copy does not."""
    found = state.stat()
    return f"{found.st_dev}:{found.st_ino}"
