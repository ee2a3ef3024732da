"""The contract of a forecasting model: the inputs, outputs and metadata of its ONNX graph.

Inputs, float32 [batch, context_length, 6], raw and oldest first, columns as in COLUMNS:
    candles    the pair's own closed candles
    reference  BTC's candles of the same hours (the pair's own, if it is BTC)
Outputs, float32 [batch, 7], one column for each level of QUANTILE_LEVELS, ascending:
    quantiles    price of the next close, quote currency
    log_returns  the same as ln(next close / last close)

Features, scaling and calibration are nodes of the graph, so a caller prepares these two arrays alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.market.candles import Candles

COLUMNS = ("open", "high", "low", "close", "volume", "hour_of_week")

# Keys of the graph's metadata_props; all values are text.
META_PAIR = "make_us_rich.pair"
META_INTERVAL = "make_us_rich.interval"
META_CONTEXT_LENGTH = "make_us_rich.context_length"
META_ARCHITECTURE = "make_us_rich.architecture"
META_AS_OF_MS = "make_us_rich.as_of_ms"

_HOURS_A_WEEK = 168
_MONDAY_OFFSET_HOURS = 72  # 1970-01-01 was a Thursday


def hour_of_week(open_time_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the hour of the week: 0 for Monday 00:00 UTC to 167 for Sunday 23:00."""
    return (open_time_ms // HOUR_MS + _MONDAY_OFFSET_HOURS) % _HOURS_A_WEEK


def input_array(candles: Candles, context_length: int) -> NDArray[np.float32]:
    """Return the newest `context_length` candles as float32 [1, context_length, 6]. Raises NotEnoughHistory."""
    if len(candles) < context_length:
        raise NotEnoughHistory(f"{len(candles)} candles given, the model needs {context_length}: send more history")
    filled = np.empty((1, context_length, len(COLUMNS)), dtype=np.float32)
    newest = slice(len(candles) - context_length, None)
    prices = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    for index, column in enumerate(prices):
        filled[0, :, index] = column[newest]
    filled[0, :, len(prices)] = hour_of_week(candles.open_time_ms[newest])
    return filled
