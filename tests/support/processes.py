"""Runs a server as a process on a free loopback port for the length of a test."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from tests.support.ports import free_port as free_port

PROJECT_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def running(
    command: Sequence[str],
    ready: str | Callable[[], bool],
    log: Path,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 60,
    user: str | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server and its children until the block ends. Fails with its log when it is not ready in time.

    `ready` is a URL that must respond with success, or a function that must return True.
    """
    is_ready = ready if callable(ready) else lambda: responds(ready)
    env = {**os.environ, **(environment or {})}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=env,
            cwd=PROJECT_ROOT if user is None else "/",
            user=user,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command} is not ready:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # children that outlived it
    process.wait()


def responds(url: str) -> bool:
    """True when a GET of the URL is answered with success."""
    try:
        with urlopen(url, timeout=2):  # httpx.get would load all CA certificates, 20 ms of CPU, at each poll
            return True
    except OSError:
        return False
