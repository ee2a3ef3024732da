"""Reads accounts and tables as the services do, for tests that look at what they stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from make_us_rich.accounts import Accounts, TokenOwner
from make_us_rich.accounts.tokens import UNKNOWN, digest
from make_us_rich.core.errors import UnknownToken
from make_us_rich.database.pool import Database

_TIMEOUT_S = 30.0  # some tests insert many rows at once


def owner_of(accounts: Accounts, plaintext: str) -> TokenOwner:
    """Find a token's owner as the gateway does. Raises UnknownToken."""
    key = digest(plaintext)
    found = accounts.tokens.find([key])
    if key not in found:
        raise UnknownToken(UNKNOWN)
    return found[key]


@contextmanager
def transaction(url: str) -> Iterator[Any]:
    """Give a cursor of a database, whose work is committed at the end of the block."""
    with Database(url) as database, database.transaction(timeout_s=_TIMEOUT_S) as cursor:
        yield cursor
