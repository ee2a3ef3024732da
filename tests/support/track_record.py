"""Served forecasts of the past, as the replicas recorded them at the time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from psycopg2.extras import execute_values

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZONS

BAND = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645]) * 0.01
"""Log quantiles of a normal return with a deviation of 1 %."""

_INSERT = """
INSERT INTO forecasts (market, pair, interval, target_open_ms, model_version, as_of_ms, last_close,
    q05, q10, q25, q50, q75, q90, q95, horizon_quantiles, made_at) VALUES %s
"""


def serve_forecasts(
    database: Database,
    pair: Pair,
    as_of_ms: Sequence[int],
    last_close: Sequence[float],
    *,
    version: int = 1,
    delay_s: int = 20,
    market: str = "binance",
    interval: Interval = Interval.H1,
    band: np.ndarray = BAND,
) -> None:
    """Record forecasts of all horizons, each `delay_s` after the close that it knew last.

    band: log quantiles of the next close, [7] or for each forecast, [n, 7]; they grow with the root of the horizon.
    """
    roots = np.sqrt(np.arange(1, HORIZONS + 1))[:, None]
    bands = np.broadcast_to(band, (len(as_of_ms), 7))
    rows = []
    for time_ms, price, own in zip(as_of_ms, last_close, bands, strict=True):
        prices = (price * np.exp(roots * own)).tolist()
        made_at = datetime.fromtimestamp(time_ms / 1000, UTC) + timedelta(seconds=delay_s)
        rows.append((market, pair, interval, time_ms, version, time_ms, price, *prices[0], prices, made_at))
    template = f"({', '.join(['%s'] * 14)}, %s::real[], %s)"
    with database.transaction() as cursor:
        execute_values(cursor, _INSERT, rows, template=template)
