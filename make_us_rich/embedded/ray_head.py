"""Start Ray's head: python -m make_us_rich.embedded.ray_head HAPROXY_FOLDER COMMAND...

After a head that was killed, the HAProxy that it had started may live on. It holds the port of the API, sends calls to
processes that are gone, and keeps the new head's HAProxy from starting for ever. So it is ended first. The new one is
started by haproxy.py, for its error answers.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from make_us_rich.operations import haproxy


def main() -> None:
    folder, *command = sys.argv[1:]
    for command_line in kill_processes_using(Path(folder)):
        print(f"ended what a killed Ray had left: {command_line}", flush=True)
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1":
        os.environ[haproxy.BINARY_SETTING] = str(haproxy.launcher(Path(folder)))
    os.execv(command[0], command)


def kill_processes_using(folder: Path) -> list[str]:
    """Kill every process whose command line names a file below `folder`; returns their command lines."""
    ended = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            words = process.cmdline()
            if any(folder in Path(word).parents for word in words):
                process.kill()
                process.wait(10)
                ended.append(" ".join(words))
    return ended


if __name__ == "__main__":
    main()
