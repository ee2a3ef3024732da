"""Runs an ASGI app in a thread of this process: a real HTTP server that starts in a tenth of a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from starlette.types import ASGIApp

from tests.support.processes import free_port


@contextmanager
def running_app(app: ASGIApp) -> Iterator[str]:
    """Serve the app on a free loopback port until the block ends; gives its URL."""
    config = uvicorn.Config(
        app,
        port=free_port(),
        log_config=None,  # the test process has its own
        log_level="warning",
        lifespan="off",
        timeout_graceful_shutdown=1,  # for a response that a fault delays
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), f"no server on port {config.port}"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{config.port}"
    finally:
        server.should_exit = True
        thread.join()
