"""Serve the dashboard: python -m dash_app --host 0.0.0.0 --port 8050

waitress reads whole requests before a thread takes one, so clients that send half a request hold no thread.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys

import waitress

from dash_app.app import LARGEST_BODY, create_app
from make_us_rich.core.settings import get_settings

_THREADS = 16
_MOST_CONNECTIONS = 500  # below the 1024 open files that a process has by default
_IDLE_S = 20  # after which a connection that sends nothing is closed
_LARGEST_HEADERS = 32 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dash_app")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8050)
    given = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    waitress.serve(
        create_app(get_settings()).server,
        host=given.host,
        port=given.port,
        threads=_THREADS,
        connection_limit=_MOST_CONNECTIONS,
        channel_timeout=_IDLE_S,
        cleanup_interval=5,
        asyncore_use_poll=True,
        max_request_body_size=LARGEST_BODY,
        max_request_header_size=_LARGEST_HEADERS,
        clear_untrusted_proxy_headers=False,  # dash_app.app reads them, if MUR_TRUSTED_PROXIES says so
        ident=None,
    )


if __name__ == "__main__":
    main()
