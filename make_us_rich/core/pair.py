"""A traded pair and its two spellings; its series of candles, and the names of their models.

Ours is `btc_usdt`, in names, URLs and files; the exchange's is `BTCUSDT`.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from make_us_rich.core.errors import UnknownPair
from make_us_rich.core.interval import Interval

SLUG = "[a-z0-9]{1,20}_[a-z0-9]{1,10}"
"""Our spelling, as a regular expression."""

# The exchange's quote currencies, present and former.
_QUOTES = frozenset(
    re.findall(
        r"\w+",
        "usdt usdc fdusd tusd busd usd1 usde usds usdp xusd bfusd usd dai pax ust vai btc eth bnb xrp trx doge sol eur "
        "euri aeur try brl gbp aud jpy rub uah ngn zar idr idrt bidr bvnd bkrw ars pln ron mxn cop czk gyen u",
    )
)
_LEAST_BASE = 3  # letters of a base that is read from a symbol without a separator and with two possible quotes


class Pair(str):
    """A base currency priced in a quote currency: one btc costs so many usdt.

    It is a string in our spelling, so it can be written, sorted and looked up like one. Text from outside becomes a
    Pair by `parse`; in a pydantic model a field of this type does so by itself.
    """

    __slots__ = ()

    def __new__(cls, base: str, quote: str) -> Self:
        return super().__new__(cls, f"{base}_{quote}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `btc_usdt`. Raises UnknownPair for anything else."""
        if re.fullmatch(SLUG, text) is None:
            raise UnknownPair(f"{text[:40]!r} is not a pair: {_remedy(text)}")
        return cls(*text.split("_"))

    @property
    def base(self) -> str:
        """The currency that is priced, such as btc."""
        return self.partition("_")[0]

    @property
    def quote(self) -> str:
        """The currency of the price, such as usdt."""
        return self.partition("_")[2]

    @property
    def symbol(self) -> str:
        """The exchange's spelling, such as BTCUSDT."""
        return self.replace("_", "").upper()

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # str's own takes one argument
        return self.base, self.quote

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema()
        # a plain str, because not every encoder knows what to do with a subclass of it
        plain = core_schema.plain_serializer_function_ser_schema(str, return_schema=text)
        return core_schema.no_info_after_validator_function(cls._validated, text, serialization=plain)

    @classmethod
    def _validated(cls, text: str) -> Self:
        try:
            return cls.parse(text)
        except UnknownPair as error:
            raise ValueError(str(error)) from None


def parse_symbol(symbol: str) -> Pair | None:
    """Read the exchange's spelling, such as BTCUSDT, in any case and also with `_`, `-` or `/` between the currencies.

    None when it does not end with a quote currency of the exchange, or when the base cannot be told from the quote.
    """
    base, separator, quote = re.sub("[-/]", "_", symbol.lower()).partition("_")
    if separator:
        known = quote in _QUOTES and re.fullmatch(SLUG, f"{base}_{quote}")
        return Pair(base, quote) if known else None
    if re.fullmatch("[a-z0-9]{2,30}", base) is None:
        return None
    # too many symbols end with `u`
    found = [
        Pair(base.removesuffix(quote), quote) for quote in _QUOTES - {"u"} if base.endswith(quote) and base != quote
    ]
    found.sort(key=lambda pair: len(pair.base))
    if not found or (len(found) > 1 and len(found[0].base) < _LEAST_BASE):  # BNBUSD: bnb_usd or bn_busd
        return None
    return found[0]


def _remedy(text: str) -> str:
    """Return how to write a pair that was written in another way."""
    meant = parse_symbol(text.strip())
    if meant is not None:
        return f"write base_quote in lower case, {meant}"
    if not text.isascii() and "_" in text:
        return (
            "the exchange may list it, but here names of pairs have only a to z and 0 to 9, because they become part "
            "of addresses, keys in S3 and names of models"
        )
    return "write base_quote in lower case, such as btc_usdt"


BITCOIN = Pair("btc", "usdt")
"""The reference market: every model also reads its candles."""


class Series(NamedTuple):
    """The candles of a pair at one interval. Each series has models, forecasts and scores of its own."""

    pair: Pair
    interval: Interval

    @classmethod
    def parse(cls, name: str) -> Series:
        """Read `btc_usdt_1h`. Raises InputError for anything else."""
        pair, _, interval = name.rpartition("_")
        return cls(Pair.parse(pair), Interval.parse(interval))

    @property
    def name(self) -> str:
        """`btc_usdt_1h`: the registered name of its models, and the name of its application in Ray Serve."""
        return f"{self.pair}_{self.interval}"


def foundation_name(interval: Interval) -> str:
    """Return the registered name of the foundation model, which each pair's model is fine-tuned from."""
    return f"foundation_{interval}"
