"""Carries frames between two network interfaces with a delay and losses: python -m tests.support.slow_link A B MS LOSS

Instead of `tc netem`, which not every kernel has.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from queue import SimpleQueue

_SOL_PACKET, _VNET_HEADER, _IGNORE_OUTGOING = 263, 15, 23
_ALL_PROTOCOLS = 3
_LARGEST = 70_000  # the kernel joins segments of TCP


def main() -> None:
    first, second = map(_open, sys.argv[1:3])
    delay_s, loss = float(sys.argv[3]) / 1000, float(sys.argv[4])
    for source, target in ((first, second), (second, first)):
        frames: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        threading.Thread(target=_receive, args=(source, frames, delay_s, loss)).start()
        threading.Thread(target=_send, args=(target, frames)).start()


def _open(interface: str) -> socket.socket:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
    link.setsockopt(_SOL_PACKET, _VNET_HEADER, 1)  # keep checksums that are left to the hardware
    link.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_000_000)
    link.bind((interface, 0))
    return link


def _receive(link: socket.socket, frames: SimpleQueue[tuple[float, bytes]], delay_s: float, loss: float) -> None:
    while True:
        frame = link.recv(_LARGEST)
        if random.random() >= loss:
            frames.put((time.monotonic() + delay_s, frame))


def _send(link: socket.socket, frames: SimpleQueue[tuple[float, bytes]]) -> None:
    while True:
        due, frame = frames.get()
        time.sleep(max(0.0, due - time.monotonic()))
        link.send(frame)


if __name__ == "__main__":
    main()
