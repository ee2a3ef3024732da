"""Around every request: its size limit, and its line in the log."""

from __future__ import annotations

import logging
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.problems import Problem

_log = logging.getLogger("ray.serve")

REQUEST_ID = "X-Request-ID"
MOST_BODY_BYTES = 1_000_000


class Envelope:
    """Plain ASGI, because Starlette's decorator for middleware costs a task and two queues a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, _limited(scope, receive), send_noted)
        finally:
            _note(scope, status, time.perf_counter() - started)


def _limited(scope: Scope, receive: Receive) -> Receive:
    announced = Headers(scope=scope).get("content-length", "0")
    read = 0

    async def receive_limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BODY_BYTES or (announced.isdigit() and int(announced) > MOST_BODY_BYTES):
            raise Problem(413, "body-too-large", f"at most {MOST_BODY_BYTES} bytes go", field="body")
        return message

    return receive_limited


def _note(scope: Scope, status: int, seconds: float) -> None:
    """The path without its query: tokens may stand there."""
    route: Any = scope.get("route")
    fields = {
        "request_id": Headers(scope=scope).get(
            REQUEST_ID, "none"
        ),  # Serve's proxy sees to it, and answers with it
        "method": scope["method"],
        "route": getattr(route, "path", "unmatched"),
        "status": status,
        "ms": round(seconds * 1000, 1),
    }
    level = logging.WARNING if status >= 500 else logging.DEBUG
    _log.log(level, "%s", " ".join(f"{key}={value}" for key, value in fields.items()))
