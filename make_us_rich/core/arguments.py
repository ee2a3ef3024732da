"""Types of the arguments that programs read with argparse."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from make_us_rich.core.errors import InputError
from make_us_rich.core.pair import Pair

T = TypeVar("T")


MISTAKE = 2
"""The exit code of a program after a mistake of its user, which argparse and typer use too."""


@contextmanager
def input_errors() -> Iterator[None]:
    """End the program with one line and MISTAKE after an InputError: argparse has passed the arguments by then."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(MISTAKE) from None


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
