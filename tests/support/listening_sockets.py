"""Finds the TCP sockets on which processes listen."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

import psutil

# Ray binds each replica's gRPC server to all interfaces, without a setting; the server requires Ray's token.
REPLICA = "ray::ServeReplica"


class ListeningSocket(NamedTuple):
    process: str
    ip: str
    port: int

    @property
    def is_local(self) -> bool:
        address = ip_address(self.ip)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (mapped or address).is_loopback


def listening(processes: Iterable[psutil.Process]) -> set[ListeningSocket]:
    found = set()
    for process in processes:
        with suppress(psutil.Error, OSError):
            name = next(iter(process.cmdline()), process.name())
            for socket in process.net_connections("tcp"):
                if socket.status == psutil.CONN_LISTEN:
                    found.add(ListeningSocket(name, *socket.laddr))
    return found
