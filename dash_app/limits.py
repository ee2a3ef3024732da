"""How often a visitor may guess. Counted per address, so that nobody's guessing elsewhere keeps the owner out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_address, ip_network

from flask import request
from flask_login import current_user

from make_us_rich.accounts import Accounts, Limit

_QUARTER, _HOUR = timedelta(minutes=15), timedelta(hours=1)


def log_in(name: str) -> tuple[Limit, Limit]:
    return (
        Limit(f"log-in {name.lower()[:64]!r} from {_network()}", 10, _QUARTER),
        Limit(f"log-in from {_network()}", 100, _HOUR),
    )


def new_account() -> Limit:
    return Limit(f"account from {_network()}", 20, _HOUR)


def link() -> Limit:
    return Limit(f"link from {_network()}", 20, _HOUR)


@contextmanager
def limit_confirmations(accounts: Accounts) -> Iterator[None]:
    """For who asks the password again: a session left open must not become the password. Raises TooManyTries."""
    limit = Limit(f"confirmation by user {current_user.user_id}", 10, _QUARTER)
    accounts.take_try(limit)
    yield
    accounts.forgive(limit)


def _network() -> str:
    """The caller's address; of IPv6 the /64, which one household has to itself."""
    address = ip_address(request.remote_addr or "0.0.0.0")
    return str(address) if address.version == 4 else str(ip_network((address, 64), strict=False))
