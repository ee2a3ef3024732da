"""Hosts on this machine: each has its own network address, link, processes, /tmp and home; they share no disk.

A host is a set of Linux namespaces. Its link is a veth pair to a bridge, which is in a namespace of its own, so nothing
of it is reachable from outside. Making namespaces needs root.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import PROJECT_ROOT

_CLONE_NEWNET = 0x40000000
_PREFIX = "10.77.0"
_GATEWAY = f"{_PREFIX}.254"
# The first process of a host. Its /tmp is a folder of its own, in which the host's folder has its outer path, and so
# have the folders of the program (the other arguments) if the checkout is below /tmp.
_INIT = """
set -e
own=$1
hostname "$2"
shift 2
mkdir -p "$own/tmp" "$own/home"
chmod 1777 "$own/tmp"
mount --bind "$own" /mnt
number=0
for folder; do
  number=$((number + 1))
  mkdir -p "/mnt/program/$number"
  mount --rbind "$folder" "/mnt/program/$number"
done
mount --bind /mnt/tmp /tmp
mkdir -p "$own"
chmod 755 "${own%/*}"
mount --bind /mnt "$own"
number=0
for folder; do
  number=$((number + 1))
  mkdir -p "$folder"
  mount --rbind "/mnt/program/$number" "$folder"
done
mount --bind "$own/etc-hosts" /etc/hosts
mount --bind "$own/resolv.conf" /etc/resolv.conf
echo ready
exec sleep infinity
"""


def reason_without_hosts() -> str:
    """Return why this machine cannot make hosts; empty if it can."""
    if os.getuid() != 0:
        return "network namespaces need root: run `make test-stacks STACKS=hosts` as root"
    probe = f"mur-{os.getpid()}-probe"
    try:
        _ip("netns", "add", probe)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"`ip netns` does not work here: {getattr(error, 'stderr', None) or error}"
    _ip("netns", "delete", probe)
    return ""


@dataclass(frozen=True)
class Host:
    name: str
    address: str
    folder: Path
    namespace: str
    port: str  # the end of its link at the bridge
    switch: str
    init: subprocess.Popen[str]

    def command(self, command: Sequence[str], user: str | None = None) -> list[str]:
        """Return the command that runs `command` on this host."""
        pid = subprocess.run(
            ["pgrep", "-P", str(self.init.pid)], capture_output=True, text=True, check=True
        ).stdout.strip()
        demoted = ["setpriv", f"--reuid={user}", f"--regid={_group_of(user)}", "--clear-groups"] if user else []
        entered = ["nsenter", f"--target={pid}", "--net", "--mount", "--pid", "--uts", "--ipc", f"--wd={self.folder}"]
        return [*entered, "--", *demoted, *command]

    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.folder / "home"), "TMPDIR": "/tmp"}

    def unplug(self) -> None:
        """Cut the link: packets are lost without an answer."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def plug(self) -> None:
        _ip("-n", self.switch, "link", "set", self.port, "up")

    @contextmanager
    def slowed(self, delay_ms: int, loss: float) -> Iterator[None]:
        """Delay each packet of the link, in each direction, and lose some."""
        ends = f"{self.port}a", f"{self.port}b"
        _ip("-n", self.switch, "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for end in ends:
            _ip("-n", self.switch, "link", "set", end, "up")
        command = [sys.executable, "-m", "tests.support.slow_link", self.port, ends[0], str(delay_ms), str(loss)]
        relay = subprocess.Popen(["ip", "netns", "exec", self.switch, *command], cwd=PROJECT_ROOT)
        try:
            _ip("-n", self.switch, "link", "set", self.port, "nomaster")
            _ip("-n", self.switch, "link", "set", ends[1], "master", "bridge")
            yield
        finally:
            relay.kill()
            relay.wait()
            _ip("-n", self.switch, "link", "delete", ends[0])
            _ip("-n", self.switch, "link", "set", self.port, "master", "bridge")

    def refuse_to_reach(self, address: str) -> None:
        """Drop packets to an address, as a firewall does."""
        _ip("-n", self.namespace, "route", "add", "blackhole", f"{address}/32")

    def reach_again(self, address: str) -> None:
        _ip("-n", self.namespace, "route", "delete", "blackhole", f"{address}/32")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make the sockets of this thread, and of threads and processes that it starts, sockets of this host."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _set_network(Path("/run/netns") / self.namespace)
        try:
            yield
        finally:
            _set_namespace(before)
            os.close(before)


@contextmanager
def hosts(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Make hosts that reach each other; the first has the address 10.77.0.1."""
    prefix = f"mur-{os.getpid()}"
    switch = f"{prefix}-switch"
    with ExitStack() as contexts:
        contexts.enter_context(_namespace(switch))
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "address", "add", f"{_GATEWAY}/24", "dev", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        made = {}
        for number, name in enumerate(names, 1):
            namespace, port = f"{prefix}-{name}", f"port{number}"
            contexts.enter_context(_namespace(namespace))
            _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            address = f"{_PREFIX}.{number}"
            _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", namespace, "link", "set", device, "up")
            # as on a real host; programs find their own address by it
            _ip("-n", namespace, "route", "add", "default", "via", _GATEWAY)
            own = folder / name
            _write_files(own, name, names)
            init = contexts.enter_context(_init(own, namespace, name))
            made[name] = Host(name, address, own, namespace, port, switch, init)
        yield made


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    _ip("netns", "add", name)
    try:
        yield
    finally:
        _ip("netns", "delete", name)


@contextmanager
def _init(folder: Path, namespace: str, name: str) -> Iterator[subprocess.Popen[str]]:
    """Run the first process of a host; all its processes end with it."""
    command = ["ip", "netns", "exec", namespace, "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork"]
    command += ["--kill-child", "--mount-proc", "sh", "-c", _INIT, "init", str(folder), name, *_program_below_tmp()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n", f"the host {name} does not start"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def _program_below_tmp() -> list[str]:
    """Return the folders below /tmp that a program of this checkout needs: the checkout, its packages and Python."""
    needed = {PROJECT_ROOT, Path(sys.prefix), Path(sys.base_prefix).resolve()}
    return [str(folder) for folder in sorted(needed) if folder.is_relative_to("/tmp")]


def _write_files(folder: Path, name: str, names: Sequence[str]) -> None:
    """Write the host's /etc/hosts, in which its own name means loopback, as on Debian; there is no name server."""
    folder.mkdir()
    folder.chmod(0o755)
    others = [f"{_PREFIX}.{number} {other}" for number, other in enumerate(names, 1) if other != name]
    (folder / "etc-hosts").write_text("\n".join(["127.0.0.1 localhost", f"127.0.1.1 {name}", *others, ""]))
    (folder / "resolv.conf").touch()


def _group_of(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _set_network(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _set_namespace(descriptor)
    finally:
        os.close(descriptor)


def _set_namespace(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns failed")
