"""The one parquet schema of candles: in the object store, in recordings and in downloads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from make_us_rich.market.candles import Candles

_QUOTE = "quote currency"
UNITS = {"open_time": "UTC", "open": _QUOTE, "high": _QUOTE, "low": _QUOTE, "close": _QUOTE, "volume": "base currency"}
"""The columns, each with its unit, which the files hold as the key `unit` of the column's metadata."""

_TIME = pa.timestamp("ms", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field(name, _TIME if name == "open_time" else pa.float64(), metadata={"unit": unit})
        for name, unit in UNITS.items()
    ]
)
_TIME_BEFORE = "open_time_ms"  # of files of the object store until November 2026, as int64


def to_table(candles: Candles) -> pa.Table:
    """Return the table of candles; a row without prices has NaN."""
    values = (candles.open_time_ms, candles.open, candles.high, candles.low, candles.close, candles.volume)
    arrays = [pa.array(value).cast(field.type) for value, field in zip(values, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def from_table(table: pa.Table) -> Candles:
    """Return the candles of `to_table`, or of an older file. Raises KeyError or pa.ArrowException for another table."""
    time = table.column(_TIME_BEFORE if _TIME_BEFORE in table.column_names else "open_time").cast(pa.int64())
    prices = (table.column(name).to_numpy().astype(np.float64) for name in list(UNITS)[1:])
    return Candles(time.to_numpy(), *prices)
