"""The ports of a stack: which they are, whether they are free, and whether the kernel leaves them alone."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil

from make_us_rich.core.errors import PortTaken, SettingsError

# A component listens on its usual port plus the port base: by default Dash, usually at 8050, listens on 28050.
PORT_OFFSETS = {
    "postgres": 5432,
    "s3": 8333,
    "mlflow": 5000,
    "ray": 6379,
    "ray_dashboard": 8265,
    "api": 8000,
    "airflow": 8080,
    "dash": 8050,
    "exchange": 8900,
    "discord": 8901,
    # internal ports of the programs above
    "s3_grpc": 8334,
    "s3_master": 9333,
    "s3_master_grpc": 9334,
    "s3_filer": 8888,
    "s3_filer_grpc": 8889,
    "s3_volume": 9340,
    "s3_volume_grpc": 9341,
    "s3_admin": 3646,
    "s3_admin_grpc": 3647,
    "ray_client": 6380,
    "ray_agent": 6381,
    "ray_metrics": 6382,
    "serve_fallback": 8500,
    "serve_fallback_grpc": 9500,
    "haproxy_stats": 8404,
    "haproxy_metrics": 9101,
}
REPLICA_OFFSETS = range(6_400, 7_901)
"""Of the gateways that Ray Serve's HAProxy calls; `_ray` of environment.py gives them to Ray."""

_BASES = range(10_000, 65_000 - max(PORT_OFFSETS.values()), 1_000)  # those that messages suggest
_KERNEL = Path("/proc/sys/net/ipv4")


def check_ports(port_base: int) -> None:
    """Raise PortTaken if ports are in use, with the process that holds each."""
    taken = [
        f"{port_base + offset} ({name}) is held by {_process_listening_on(port_base + offset)}"
        for name, offset in PORT_OFFSETS.items()
        if _is_taken(port_base + offset)
    ]
    if taken:
        free = next((base for base in _BASES if not _has_outgoing_ports(base) and not _has_taken_ports(base)), None)
        elsewhere = "" if free is None else f", or move the stack: MUR_PORT_BASE={free}"
        raise PortTaken(f"ports in use: {'; '.join(taken)}. End them{elsewhere}")


def refuse_outgoing_ports(port_base: int) -> None:
    """Raise SettingsError for a base at which an outgoing connection may take a port before its component listens.

    Where the kernel uses every port for outgoing connections, any base is as good as another.
    """
    if not _has_outgoing_ports(port_base):
        return
    allowed = next((base for base in _BASES if not _has_outgoing_ports(base)), None)
    if allowed is not None:
        outgoing = outgoing_ports()
        raise SettingsError(
            f"MUR_PORT_BASE={port_base} puts ports of the stack among {outgoing[0]} to {outgoing[-1]}, which the "
            f"kernel gives to outgoing connections: set it to {allowed}, for example"
        )


def _has_outgoing_ports(port_base: int) -> bool:
    ports = {port_base + offset for offset in (*PORT_OFFSETS.values(), *REPLICA_OFFSETS)}
    outgoing = outgoing_ports()
    reserved = _reserved_ports()
    return any(port in outgoing and port not in reserved for port in ports)


def _has_taken_ports(port_base: int) -> bool:
    return any(_is_taken(port_base + offset) for offset in PORT_OFFSETS.values())


def outgoing_ports() -> range:
    """Return the ports that the kernel gives to outgoing connections; the usual ones where it does not say."""
    try:
        first, last = map(int, (_KERNEL / "ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        first, last = 49_152, 65_535
    return range(first, last + 1)


def _reserved_ports() -> set[int]:
    """Return the ports that an administrator took out of those for outgoing connections, as `4000,5000-5010`."""
    try:
        parts = (_KERNEL / "ip_local_reserved_ports").read_text().strip().split(",")
    except OSError:
        return set()
    bounds = [part.partition("-") for part in parts if part]
    return {port for first, _, last in bounds for port in range(int(first), int(last or first) + 1)}


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _process_listening_on(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {process.pid})"
    except psutil.Error:
        pass
    return "another user's process"
