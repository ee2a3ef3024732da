"""The recorded candles that the benchmarks use, and the command that downloads them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection
from pathlib import Path

from make_us_rich.core.errors import InputError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_recorded, recorded_pairs

FOLDER = Path(__file__).parents[1] / "data" / "klines-1h"
PAIRS = "ada bnb btc chz doge eth link ltc sol xrp"
FROM, TO = "2020-10-15", "2023-01-01"  # those of the figures in docs/explanation/forecasting.md


def add_candles_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--candles",
        type=Path,
        default=Path(os.environ.get("CANDLES") or FOLDER),
        help="folder of hourly klines; by default the variable CANDLES, else data/klines-1h of the checkout",
    )


def read_candles(folder: Path, pairs: Collection[Pair] = ()) -> dict[str, Candles]:
    """Read hourly candles by pair, of all pairs in the folder by default.

    Exits with the command that downloads them when some are missing.
    """
    wanted = pairs or recorded_pairs(folder)
    try:
        if wanted:
            return read_recorded(folder, wanted, Interval.H1)
        missing = f"{folder} has no klines"
    except InputError as error:
        missing = str(error).partition(":")[0]
    names = ",".join(map(str, wanted)) or ",".join(f"{coin}_usdt" for coin in PAIRS.split())
    raise SystemExit(
        f"{missing}. Download them, and run this again:\n\n"
        f"    .venv/bin/mkrich candles download --pairs {names} --from {FROM} --to {TO} --out {folder}"
    )
