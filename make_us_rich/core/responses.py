"""How clients talk to servers: how long they keep connections, and how they read headers and JSON answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

CONNECTIONS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=2.0)
"""httpx's own limits, but for idle connections, which it keeps for 5 s: as long as uvicorn, so that a call may reach a
server that is just closing the connection."""

UNEXPECTED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading an answer raises when it is not JSON, or JSON of another shape."""


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token; none without a token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def read_json(answer: httpx.Response, read: Callable[[Any], T], error: Callable[[str], Exception]) -> T:
    """Return `read` of the answer's JSON. Raises `error` when it is not JSON, or JSON of another shape."""
    try:
        return read(answer.json())
    except UNEXPECTED as fault:
        raise error(
            f"{answer.url} answered {answer.status_code} with something unexpected ({fault!r}): "
            "is it the right address, or a proxy's page?"
        ) from fault


def read_retry_after(text: str | None) -> float | None:
    """Return the seconds of the header Retry-After, zero or more; None if it is absent or nonsense."""
    try:
        seconds = float(text or "")
    except ValueError:
        try:
            seconds = max(0.0, parsedate_to_datetime(text or "").timestamp() - time.time())
        except (ValueError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
