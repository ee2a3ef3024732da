"""HTTP sessions for a server that the project does not control: caps on the size and the time of a whole response.

The timeout of `requests` limits each wait for bytes alone, so a server that sends one byte a second is never too late;
and it unpacks a response to any size.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from make_us_rich.core.errors import MarketUnavailable
from make_us_rich.core.responses import UNEXPECTED

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PART_BYTES = 65_536


@dataclass(frozen=True)
class Limits:
    """Caps of a response: its bytes, both as received and unpacked, and the seconds from the request to its end."""

    max_bytes: int = 16_000_000
    total_s: float = 30.0

    def too_large(self) -> MarketUnavailable:
        return MarketUnavailable(f"the exchange's response is larger than {self.max_bytes / 1e6:.0f} MB")

    def too_late(self) -> MarketUnavailable:
        return MarketUnavailable(f"the exchange's response took longer than {self.total_s:g} s")


def get(url: str, *, timeout_s: float) -> requests.Response:
    """Return the whole response, which may be a redirect: none is followed. Raises MarketUnavailable."""
    with limited_session(Limits()) as session:
        try:
            return session.get(url, timeout=timeout_s, allow_redirects=False)
        except (requests.RequestException, *UNEXPECTED) as error:
            raise MarketUnavailable(f"the exchange cannot be reached: {type(error).__name__}") from None


def limited_session(limits: Limits) -> requests.Session:
    """Return a session whose responses raise MarketUnavailable beyond the limits. It keeps no cookies."""
    session = requests.Session()
    limit_session(session, limits)
    return session


def limit_session(session: requests.Session, limits: Limits) -> None:
    """Let the responses of a session raise MarketUnavailable beyond the limits, and keep no cookies."""
    for scheme in ("http://", "https://"):
        session.mount(scheme, _LimitedAdapter(limits))
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))


class _LimitedAdapter(HTTPAdapter):
    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        if not isinstance(pool.ConnectionCls, partial):
            pool.ConnectionCls = partial(_connect, pool.ConnectionCls, self._limits)  # type: ignore[assignment]
        return pool

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Return the response with its whole body, decoded as UTF-8 whatever charset its headers name."""
        try:
            response = super().send(request, *args, **(kwargs | {"stream": True}))
            body = bytearray()
            try:
                for part in response.iter_content(_PART_BYTES):
                    body += part
                    if len(body) > self._limits.max_bytes:
                        raise self._limits.too_large()
            finally:
                response.close()
        except HTTPError as error:  # of urllib3; requests translates most of them
            raise requests.ConnectionError(error, request=request) from None
        response._content = bytes(body)
        response.encoding = "utf-8"  # otherwise requests guesses it from every byte
        return response


def _connect(connect: Callable[..., Any], limits: Limits, **kwargs: Any) -> Any:
    connection = connect(**kwargs)
    connection.response_class = partial(_LimitedResponse, limits)
    return connection


class _LimitedResponse(HTTPResponse):
    """A response that reads its status line, headers and body through `_LimitedStream`."""

    def __init__(self, limits: Limits, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_LimitedStream(limits, sock, self.fp.detach()))


class _LimitedStream(io.RawIOBase):
    def __init__(self, limits: Limits, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._limits, self._socket, self._raw = limits, sock, raw
        self._ends_s = time.monotonic() + limits.total_s
        self._left = limits.max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise self._limits.too_late()
        allowed_s = self._socket.gettimeout()
        self._socket.settimeout(left_s if allowed_s is None else min(allowed_s, left_s))
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            if time.monotonic() >= self._ends_s:
                raise self._limits.too_late() from None
            raise
        self._left -= count or 0
        if self._left < 0:
            raise self._limits.too_large()
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
