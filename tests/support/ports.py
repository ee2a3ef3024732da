"""Ports of the servers that tests start. No two test processes of a machine share one, also of two checkouts.

Each test process reserves a block of ports, by binding to the first of them for as long as it runs. All blocks are
below the ports of outgoing connections, which may take a port before a server listens on it, and beside the ports of a
stack with the default base.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

BLOCKS = 12
_FIRST, _SIZE = 3_000, 800
_SERVE = 200  # of each block, for the replicas of Ray Serve
# The ports of a stack are its base plus offsets up to 9,500. Bases at this distance have no port in common.
_FIRST_STACK, _BETWEEN_STACKS = 9_000, 380

# Chromium opens no page on these (ERR_UNSAFE_PORT); source: net/base/port_util.cc.
_BLOCKED_BY_BROWSERS = frozenset({3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080})


@dataclass(frozen=True)
class Block:
    """The ports of one test process; the process holds the first."""

    number: int

    @property
    def _first(self) -> int:
        return _FIRST + self.number * _SIZE

    @property
    def single(self) -> list[int]:
        """The ports for `free_port`, which a browser can open."""
        ports = range(self._first + 1, self._first + _SIZE - _SERVE)
        return [port for port in ports if port not in _BLOCKED_BY_BROWSERS]

    @property
    def serve(self) -> range:
        """The ports of Ray Serve's replicas, which Serve gives them in order."""
        end = self._first + _SIZE
        return range(end - _SERVE, end)

    @property
    def stack_base(self) -> int:
        """The port base of the embedded stack of this process, which runs one at a time."""
        return _FIRST_STACK + self.number * _BETWEEN_STACKS

    def reserve(self) -> socket.socket | None:
        """Hold this block until the socket is closed; None when another process holds it."""
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", self._first))
        except OSError:
            holder.close()
            return None
        return holder


_holders: list[socket.socket] = []  # kept open


@cache
def own_block() -> Block:
    """Return the block of this process, which is reserved until the process ends."""
    for block in map(Block, range(BLOCKS)):
        if holder := block.reserve():
            _holders.append(holder)
            return block
    raise AssertionError(f"{BLOCKS} test processes run on this machine: wait until one ends")


@cache
def _ports() -> Iterator[int]:
    return itertools.cycle(own_block().single)


def free_port() -> int:
    """Return a free port that this process has not given before, until it has given all of its block."""
    while True:
        port = next(_ports())
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@cache
def _serve_ranges() -> Iterator[range]:
    ports = own_block().serve
    half = len(ports) // 2
    return itertools.cycle([ports[:half], ports[half:]])


def serve_ports() -> range:
    """Return ports for the replicas of a new Serve, not those of the one before, which may still be closing."""
    return next(_serve_ranges())
