"""A replica with one answer, and tokens that are all known, for tests of the gateway's routes."""

from __future__ import annotations

from make_us_rich.accounts import TokenOwner
from make_us_rich.documents import Document, PairState


class OneAnswer:
    """A replica of btc_usdt_1h that answers every call with one document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    async def applications(self) -> frozenset[str]:
        return frozenset({"btc_usdt_1h"})

    async def call(self, name: str, method: str, *arguments: object) -> Document:
        return self._document

    def is_scaled_to_zero(self, name: str) -> bool:
        return False

    async def states(self, method: str) -> dict[str, PairState]:
        return {}


class AnyToken:
    """Knows an owner for every token."""

    async def authenticate(self, _: str) -> TokenOwner:
        return TokenOwner(user_id=1, token_id=1, roles=frozenset(), monthly_calls=10)
