"""Recorded klines: a folder of parquet files, one a pair, such as BTCUSDT.parquet."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from make_us_rich.errors import BadCandles, InputError
from make_us_rich.market.candles import Candles, clean
from make_us_rich.pairs import Pair

_COLUMNS = ("open", "high", "low", "close", "volume")
_QUOTES = ("usdt", "usdc", "busd", "btc", "eth", "eur", "usd")  # longer names first where one ends another


def read_klines(path: Path, interval: str) -> Candles:
    """Clean candles of one file with the columns open_time (ms), open, high, low, close, volume."""
    try:
        rows = pq.read_table(path)
        columns = [rows[name].to_numpy().astype(float) for name in _COLUMNS]
        return clean(Candles(rows["open_time"].to_numpy(), *columns), interval)[0]
    except (pa.ArrowException, KeyError, ValueError) as error:
        wanted = ", ".join(("open_time", *_COLUMNS))
        raise BadCandles(f"{path.name} is not a table of klines with {wanted}: {error}") from None


def write_klines(path: Path, candles: Candles) -> None:
    """Write what `read_klines` and the replay exchange read. Replaces the file as a whole."""
    columns = {name: getattr(candles, name) for name in _COLUMNS}
    unfinished = path.with_name(f".{path.name}.unfinished")
    pq.write_table(pa.table({"open_time": candles.open_time_ms, **columns}), unfinished, compression="zstd")
    unfinished.replace(path)


def recorded_pairs(folder: Path) -> list[Pair]:
    """The pairs whose klines lie in a folder, by name."""
    found = (_pair(path.stem.lower()) for path in folder.glob("*.parquet"))
    return sorted(pair for pair in found if pair is not None)


def read_recorded(folder: Path, pairs: Collection[Pair], interval: str) -> dict[str, Candles]:
    """Candles by pair. Raises InputError naming what the folder lacks."""
    missing = [str(pair) for pair in pairs if not klines_path(folder, pair).is_file()]
    if missing:
        have = ", ".join(map(str, recorded_pairs(folder))) or "no klines"
        raise InputError(
            f"{folder} has no klines of {', '.join(missing)}, it has {have}: download them by "
            f"`mkrich candles download --pairs {','.join(missing)} --from … --to … --out {folder}`",
            field="candles",
        )
    return {str(pair): read_klines(klines_path(folder, pair), interval) for pair in pairs}


def klines_path(folder: Path, pair: Pair) -> Path:
    return folder / f"{pair.symbol}.parquet"


def _pair(symbol: str) -> Pair | None:
    for quote in _QUOTES:
        if symbol.endswith(quote) and symbol != quote:
            return Pair(symbol.removesuffix(quote), quote)
    return None
