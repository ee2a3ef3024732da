"""The middleware around every request: body limit, log line, metrics, and the header with the service's version."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from make_us_rich import __version__
from serve_app.metrics import GatewayMetrics
from serve_app.problems import Problem

_log = logging.getLogger("ray.serve")

CALLER = "make_us_rich.caller"
"""The key of the caller's user id in the ASGI scope."""
MOST_BODY_BYTES = 1_000_000
_VERSION = (b"x-service-version", __version__.encode())


class RequestMiddleware:
    """Plain ASGI, because Starlette's decorator for middleware costs a task and two queues for each request."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def send_with_version(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append(_VERSION)
            await send(message)

        try:
            await self._app(scope, _limited(scope, receive), send_with_version)
        finally:
            self._log_and_count(scope, status, time.perf_counter() - started)

    def _log_and_count(self, scope: Scope, status: int, seconds: float) -> None:
        """Log the route, never the query, which may hold a token; log the pair only when there is such a pair."""
        route = getattr(scope.get("route"), "path", "unmatched")
        fields = {"method": scope["method"], "path": route, "status": status, "ms": round(seconds * 1000, 1)}
        fields["caller"] = scope.get(CALLER)
        self._metrics.request_answered(route, status)
        pair = scope.get("path_params", {}).get("pair")
        if pair is not None and status < HTTPStatus.BAD_REQUEST:
            fields["pair"] = pair
            self._metrics.pair_answered(pair, seconds)
        level = logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        _log.log(level, "request", extra=fields)


def _limited(scope: Scope, receive: Receive) -> Receive:
    """Return a `receive` that raises Problem 413 for a body that is too large."""
    announced = Headers(scope=scope).get("content-length", "0")
    read = 0

    async def receive_limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BODY_BYTES or (announced.isdigit() and int(announced) > MOST_BODY_BYTES):
            raise Problem(413, "body-too-large", f"send at most {MOST_BODY_BYTES} bytes", field="body")
        return message

    return receive_limited
