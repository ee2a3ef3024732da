"""A traded pair, and the one place that knows its two spellings.

`btc_usdt` is ours (names, URLs, files); `BTCUSDT` exists only at the exchange's door.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from make_us_rich.core.errors import UnknownPair

SLUG = "[a-z0-9]{1,20}_[a-z0-9]{2,10}"
"""What a pair looks like, as a regular expression."""


@dataclass(frozen=True, order=True)
class Pair:
    """Base currency priced in the quote currency: one btc costs so many usdt."""

    base: str
    quote: str

    @classmethod
    def parse(cls, text: str) -> Pair:
        """Read `btc_usdt`. Raises UnknownPair for anything else."""
        if re.fullmatch(SLUG, text) is None:
            raise UnknownPair(f"{text[:40]!r} is not a pair: write base_quote in lower case, such as btc_usdt")
        base, quote = text.split("_")
        return cls(base, quote)

    @property
    def symbol(self) -> str:
        """The exchange's spelling, such as BTCUSDT."""
        return f"{self.base}{self.quote}".upper()

    def __str__(self) -> str:
        return f"{self.base}_{self.quote}"


BITCOIN = Pair("btc", "usdt")
"""The reference market: a covariate of every other pair."""
