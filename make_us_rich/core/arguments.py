"""Types of the arguments that programs read with argparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from make_us_rich.core.errors import InputError
from make_us_rich.core.pair import Pair

T = TypeVar("T")


def argument(read: Callable[[str], T]) -> Callable[[str], T]:
    """Let argparse report the InputError of `read` with the usage; it would end in a traceback."""

    def read_argument(text: str) -> T:
        try:
            return read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read_argument


def parse_pairs(text: str) -> tuple[Pair, ...]:
    """Read `btc_usdt,eth_usdt`. Raises UnknownPair."""
    return tuple(Pair.parse(name) for name in text.split(","))
