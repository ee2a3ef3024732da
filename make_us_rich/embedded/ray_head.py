"""Start Ray's head: python -m make_us_rich.embedded.ray_head HAPROXY_FOLDER SESSIONS_FOLDER COMMAND...

If a head was killed, the HAProxy that it started may still run. It holds the API's port, sends calls to processes that
are gone, and prevents the new head's HAProxy from starting. So this ends it first. Ray then starts HAProxy through
`operations/haproxy.py`, which sets the error answers.

Each head makes a folder of its own for logs and sockets, 10 to 30 MB, and Ray deletes none. The last one is kept,
because its logs say why that head ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from make_us_rich.embedded.supervisor import end
from make_us_rich.operations import haproxy

_END_TIMEOUT_S = 5.0


def main() -> None:
    folder, sessions, *command = sys.argv[1:]
    for command_line in end_processes_using(Path(folder)):
        print(f"ended a process of an earlier Ray head: {command_line}", flush=True)
    delete_old_sessions(Path(sessions))
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1":
        os.environ[haproxy.BINARY_SETTING] = str(haproxy.launcher(Path(folder)))
    os.execv(command[0], command)


def delete_old_sessions(folder: Path) -> None:
    """Delete the folders of earlier heads but the newest one, whose name is that of its time."""
    for session in sorted(folder.glob("session_2*"))[:-1]:
        shutil.rmtree(session, ignore_errors=True)


def end_processes_using(folder: Path) -> list[str]:
    """End every process whose command line names a file below `folder`, and return their command lines."""
    ended = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            arguments = process.cmdline()
            if any(folder in Path(argument).parents for argument in arguments):
                end([process], signal.SIGTERM, _END_TIMEOUT_S)
                ended.append(" ".join(arguments))
    return ended


if __name__ == "__main__":
    main()
