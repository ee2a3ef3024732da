"""How often a visitor may guess.

A log-in is limited for each address, for each account over all addresses, and, where the browser has logged in to the
account before, for this browser alone: guessing elsewhere does not keep the owner out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_address, ip_network

from flask import current_app, request
from flask_login import current_user

from dash_app.security import devices
from make_us_rich.accounts import Accounts, Limit, fold

_QUARTER, _HOUR = timedelta(minutes=15), timedelta(hours=1)
_FORWARDED = ("X-Forwarded-For", "X-Real-Ip", "Forwarded")
_LONGEST_KEY = 200
_WARNED = "an undeclared proxy"


def log_in(name: str) -> tuple[Limit, ...]:
    """The account's own comes last: what an address is refused does not count against the account."""
    who = fold(name)[:_LONGEST_KEY]
    device = devices.known(name)
    if device:
        return (Limit(f"log-in {who!r} by the browser {device}", 10, _QUARTER),)
    of_account = Limit(f"log-in {who!r}", 50, _HOUR)
    network = _network()
    if network is None:
        return (of_account,)
    return (
        Limit(f"log-in {who!r} from {network}", 10, _QUARTER),
        Limit(f"log-in from {network}", 100, _HOUR),
        of_account,
    )


def new_account() -> Limit:
    network = _network()
    return Limit(f"account from {network or 'behind a proxy'}", 20 if network else 200, _HOUR)


def link() -> Limit:
    network = _network()
    return Limit(f"link from {network or 'behind a proxy'}", 20 if network else 200, _HOUR)


@contextmanager
def limit_confirmations(accounts: Accounts) -> Iterator[None]:
    """For who asks the password again: a session left open must not become the password. Raises TooManyAttempts."""
    limit = Limit(f"confirmation by user {current_user.user_id}", 10, _QUARTER)
    accounts.consume_attempt(limit)
    yield
    accounts.refund(limit)


def origin() -> str:
    """Where a visitor comes from, for the audit log."""
    return request.remote_addr or "unknown"


def _network() -> str | None:
    """The caller's address; of IPv6 the /64, which one household has to itself. None: a proxy hides it.

    A proxy that MUR_TRUSTED_PROXIES does not count has one address for all visitors, so nothing is counted by it:
    one guesser would lock everybody out. It is told by a private address that passes on a forwarding header.
    """
    address = ip_address(request.remote_addr or "0.0.0.0")
    is_forwarded = any(name in request.headers for name in _FORWARDED)
    if current_app.config["TRUSTED_PROXIES"] == 0 and is_forwarded and address.is_private:
        _warn_once(str(address))
        return None
    return str(address) if address.version == 4 else str(ip_network((address, 64), strict=False))


def _warn_once(address: str) -> None:
    if not current_app.extensions.get(_WARNED):
        current_app.extensions[_WARNED] = True
        current_app.logger.warning(
            "%s forwards requests, and MUR_TRUSTED_PROXIES is 0: visitors' addresses are unknown and not limited. "
            "Set it to the number of proxies in front of the dashboard.",
            address,
        )
