"""The ports of the tests' own servers: no two test processes share one, and a browser must be able to open each."""

from __future__ import annotations

import socket
from itertools import combinations
from pathlib import Path

from make_us_rich.embedded.ports import PORT_OFFSETS
from make_us_rich.embedded.stack_config import StackConfig
from tests.support.ports import BLOCKS, Block, free_port, own_block, serve_ports

ALL = [Block(number) for number in range(BLOCKS)]
DEFAULT_STACK = StackConfig("simulated", Path())
LOWEST_OF_OUTGOING_CONNECTIONS = 32_768
# Serve gives its replicas the first ports of their ranges; a test stack has a few.
GATEWAYS = 30


def test_no_port_is_one_that_browsers_refuse() -> None:
    given = {port for block in ALL for port in block.single}

    assert len(given) > BLOCKS * 580
    assert not given & {3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080}


def test_no_two_processes_share_a_port() -> None:
    ports = [{*block.single, *block.serve, *_ports_of_stack(block.stack_base)} for block in ALL]

    assert all(one.isdisjoint(other) for one, other in combinations(ports, 2))
    assert set().union(*ports).isdisjoint(_ports_of_stack(DEFAULT_STACK.port_base)), "a demo could not run meanwhile"
    assert max(set().union(*ports)) < LOWEST_OF_OUTGOING_CONNECTIONS


def _ports_of_stack(base: int) -> set[int]:
    """Return the ports of make_us_rich/embedded/environment.py."""
    gateways = {*range(base + 6400, base + 6400 + GATEWAYS), *range(base + 7401, base + 7401 + GATEWAYS)}
    return {base + offset for offset in PORT_OFFSETS.values()} | gateways


def test_a_reserved_block_is_refused_to_others_until_its_process_ends() -> None:
    assert own_block().reserve() is None, "this process does not hold its block"
    free = next(block for block in reversed(ALL) if (holder := block.reserve()))
    assert free.reserve() is None
    holder.close()
    again = free.reserve()
    assert again is not None
    again.close()


def test_a_port_in_use_is_not_given() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", taken := free_port()))
        given = [free_port() for _ in own_block().single]

    assert taken not in given
    assert set(given) <= set(own_block().single)


def test_each_serve_gets_other_ports_than_the_one_before() -> None:
    assert set(serve_ports()).isdisjoint(serve_ports())
