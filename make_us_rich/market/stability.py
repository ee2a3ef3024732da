"""Pairs whose price hardly moves, such as USDC in USDT: models here have no forecast for them."""

from __future__ import annotations

import math

import numpy as np

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.market.candles import Candles

_LEAST_MOVE = 3e-4
"""The least usual move of an hour, as a standard deviation: below it, bands of the models are several times too wide.

Euro and dollar move by 0.06 % an hour, coins by 0.3 to 5 %, dollar coins in each other by 0.002 %.
"""
_DAY = 24  # candles whose moves are averaged
_NORMAL = math.sqrt(math.pi / 2)  # standard deviation by the mean of absolute values


def usual_move(candles: Candles) -> float:
    """Return the standard deviation of a candle's log return on a usual day; a few wild days do not change it."""
    moves = np.abs(np.diff(np.log(candles.close)))
    days = [part.mean() for part in np.array_split(moves, max(1, len(moves) // _DAY)) if len(part)]
    return float(np.median(days)) * _NORMAL if days else 0.0


def why_too_stable(candles: Candles, step_ms: int) -> str:
    """Say why models here have no forecast for such a pair; empty where they have."""
    least, move = _LEAST_MOVE * math.sqrt(step_ms / HOUR_MS), usual_move(candles)
    if move >= least:
        return ""
    return (
        f"moves by {move:.4%} in a candle, and models here forecast pairs that move by {least:.4%} at least: "
        "a band for a stable pair would be far too wide"
    )
