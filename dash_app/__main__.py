"""Serve the dashboard: python -m dash_app --host 0.0.0.0 --port 8050

waitress hands a request to a thread only when it has arrived completely, so half-open requests occupy no thread.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys

import waitress
from dash import Dash
from waitress.server import BaseWSGIServer

from dash_app.app import MAX_BODY, create_app
from make_us_rich.core.settings import get_settings

_THREADS = 16
_MAX_CONNECTIONS = 500  # below the default limit of 1024 open files
_IDLE_TIMEOUT_S, _IDLE_CHECKED_EVERY_S = 20, 5
_MAX_HEADERS = 32 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dash_app")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8050)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    create_server(create_app(get_settings()), arguments.host, arguments.port).run()


def create_server(app: Dash, host: str, port: int) -> BaseWSGIServer:
    """Return a server that listens; `run` answers the requests until the process ends."""
    return waitress.create_server(
        app.server,
        host=host,
        port=port,
        threads=_THREADS,
        connection_limit=_MAX_CONNECTIONS,
        channel_timeout=_IDLE_TIMEOUT_S,
        cleanup_interval=_IDLE_CHECKED_EVERY_S,
        asyncore_use_poll=True,
        max_request_body_size=MAX_BODY,
        max_request_header_size=_MAX_HEADERS,
        clear_untrusted_proxy_headers=False,  # dash_app.app reads them when MUR_TRUSTED_PROXIES is set
        ident=None,
    )


if __name__ == "__main__":
    main()
