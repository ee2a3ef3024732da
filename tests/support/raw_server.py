"""A server that answers with any bytes at any pace, as a broken or hostile one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Send = Callable[[bytes], object]
Answer = Callable[[str, Send], None]
"""Writes the answer to a request of a path, status line and headers too. The connection is closed after it."""


@dataclass
class RawServer:
    """`requests`: the paths, with their queries, that were asked for. `ended`: set when the test has ended."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def raw_server(answer: Answer) -> Iterator[RawServer]:
    """Run the server."""
    made = RawServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.requests.append(self.path)
            self.close_connection = True
            with suppress(OSError):  # the client has had enough
                answer(self.path, self.wfile.write)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        made.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def plain(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """Return an answer that ends with its connection."""
    return f"HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n".encode() + body
