"""A proxy in front of the replay exchange that counts requests, and can delay its responses."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx


class ExchangeProxy:
    """`klines` counts requests for candles by symbol. While the event `gate` is not set, responses wait."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.klines: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()


@contextmanager
def counting_exchange_proxy(exchange_url: str) -> Iterator[ExchangeProxy]:
    """Run a proxy in front of `exchange_url`."""

    class Passing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = urlsplit(self.path)
            if target.path.endswith("/klines"):
                proxy.klines.update(parse_qs(target.query)["symbol"])
            proxy.gate.wait(60)
            try:
                answer = httpx.get(exchange_url + self.path)
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)
            except (OSError, httpx.HTTPError):
                pass  # the caller gave up, or the test is over

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
    proxy = ExchangeProxy(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=[0.02])  # seconds until it notices its end
    thread.start()
    try:
        yield proxy
    finally:
        proxy.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
