"""Take root's rights from a Python program of the stack, for when root starts the stack."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from make_us_rich.core.errors import StackError

_USER = "nobody"
_READING = "+dac_read_search"  # the capability to read every file, and to write none


def unprivileged(command: Sequence[str]) -> list[str]:
    """The command that runs `command` as an unprivileged user; `command` itself unless this process is root's.

    pyenv's and uv's Pythons may lie in root's private folder. The program keeps root's right to read files then, and
    still may not write them. Raises StackError when it cannot be run so.
    """
    if os.getuid() != 0:
        return list(command)
    user = pwd.getpwnam(_USER)
    setpriv = [shutil.which("setpriv") or "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
    setpriv += ["--clear-groups", "--no-new-privs"]
    plain = [*setpriv, "--inh-caps=-all", "--bounding-set=-all"]
    caps = f"-all,{_READING}"
    reading = [*setpriv, f"--inh-caps={caps}", f"--ambient-caps={caps}", f"--bounding-set={caps}"]
    needs = [Path(sys.executable).resolve(), Path(os.__file__), Path(psutil.__file__), Path(__file__)]
    for prefix in (plain, reading):
        if _can_read(prefix, needs):
            return [*prefix, *command]
    raise StackError(
        f"MLflow runs as {_USER!r} because you are root, and {_USER!r} may not read {', '.join(map(str, needs))}: "
        "`chmod o+x` their folders, or run as a normal user"
    )


def _can_read(prefix: Sequence[str], files: Sequence[Path]) -> bool:
    """By reading: `test -r` asks the kernel for the user's rights without its capabilities."""
    command = [*prefix, "head", "-c1", *map(str, files)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:  # no setpriv
        return False
