"""Limits on how often a visitor may try a password, a registration or a password link.

Log-in attempts are counted per address and per account. In a browser that has logged in to the account before, they
are counted for that browser alone, so that attacks from elsewhere never lock the owner out. Such a browser holds a
signed cookie, which grants no access by itself.
Source: https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from flask import current_app, request
from flask_login import current_user
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.wrappers import Response

from make_us_rich.accounts import Limit, name_key

_KNOWN_BROWSER_COOKIE = "known_browser"
_KNOWN_BROWSER_LIFETIME = timedelta(days=180)
_QUARTER, _HOUR = timedelta(minutes=15), timedelta(hours=1)
_FORWARDING_HEADERS = ("X-Forwarded-For", "X-Real-Ip", "Forwarded")
_MAX_KEY_LENGTH = 200
_WARNED = "an undeclared proxy"


def login_limits(name: str) -> tuple[Limit, ...]:
    """Return the limits of a log-in as `name`.

    The limit of the account comes last: an attempt that its address's limit refuses does not count for the account.
    """
    account = name_key(name)[:_MAX_KEY_LENGTH]
    if browser := _known_browser_key(name):
        return (Limit(f"log-in {account!r} by the browser {browser}", 10, _QUARTER),)
    network = client_network()
    return (
        Limit(f"log-in {account!r} from {network}", 10, _QUARTER),
        Limit(f"log-in from {network}", 100, _HOUR),
        Limit(f"log-in {account!r}", 50, _HOUR),
    )


def network_limit(action: str) -> Limit:
    """Return the limit of an action, such as a registration, by all visitors of the visitor's network together."""
    return Limit(f"{action} from {client_network()}", 20, _HOUR)


def confirmation_limit() -> Limit:
    """Return the limit of wrong passwords of the logged-in user, who confirms an action with it.

    Without this limit, a person at an unattended session could try every password.
    """
    return Limit(f"confirmation by user {current_user.user_id}", 10, _QUARTER)


def client_address() -> str:
    """Return the visitor's address, for the audit log."""
    return request.remote_addr or "unknown"


def remember_browser(response: Response, name: str) -> None:
    """Set the cookie that marks this browser as one that has logged in as `name`."""
    response.set_cookie(
        _KNOWN_BROWSER_COOKIE,
        _signer().dumps([name_key(name), _known_browser_key(name) or secrets.token_hex(8)]),
        max_age=_KNOWN_BROWSER_LIFETIME,
        path="/login",
        secure=current_app.config["SESSION_COOKIE_SECURE"],
        httponly=True,
        samesite="Lax",
    )


def _known_browser_key(name: str) -> str:
    """Return this browser's key if it has logged in as `name` before, else an empty string."""
    cookie = request.cookies.get(_KNOWN_BROWSER_COOKIE, "")
    try:
        account, key = _signer().loads(cookie, max_age=int(_KNOWN_BROWSER_LIFETIME.total_seconds()))
    except (BadSignature, ValueError, TypeError):
        return ""
    return str(key) if account == name_key(name) else ""


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt="known browser")


def client_network() -> str:
    """Return the visitor's IPv4 address or IPv6 /64 (one household).

    Behind a proxy that MUR_TRUSTED_PROXIES does not count it is the proxy's, for all visitors: the log says so once. A
    header cannot change it, because anybody can send one.
    """
    address = _visitor_address()
    is_forwarded = any(name in request.headers for name in _FORWARDING_HEADERS)
    if current_app.config["TRUSTED_PROXIES"] == 0 and is_forwarded and address.is_private:
        _warn_once(str(address))
    return str(address) if address.version == 4 else str(ip_network((address, 64), strict=False))


def _visitor_address() -> IPv4Address | IPv6Address:
    """Return the visitor's address; the proxy's when it forwards something else in its place."""
    proxied = request.environ.get("werkzeug.proxy_fix.orig", {})
    for text in (request.remote_addr, proxied.get("REMOTE_ADDR")):
        with suppress(ValueError):
            address = ip_address(text or "")
            return getattr(address, "ipv4_mapped", None) or address
    return ip_address("0.0.0.0")


def _warn_once(address: str) -> None:
    if not current_app.extensions.get(_WARNED):
        current_app.extensions[_WARNED] = True
        current_app.logger.warning(
            "%s forwards requests, but MUR_TRUSTED_PROXIES is 0: all visitors share its address, and one of them can "
            "use up the log-ins of all. Set it to the number of proxies in front of the dashboard.",
            address,
        )
