"""The table `outcomes`: the outcome of each served forecast, at every horizon whose target has closed."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg2.extras import execute_values

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import events
from make_us_rich.database.pool import Database
from make_us_rich.documents import QUANTILE_NAMES

_TIMEOUT_S = 30.0  # of the pipeline's statements; a page waits less
_FOREVER_MS = 2**62
# Of each horizon whose target has closed. The next close comes first, so that closes[1] is its close.
_ARRAYS = "horizons, closes, naive_losses, ewma_losses, garch_losses"
# Of several models the one that forecast first counts. The newest forecasts are judged first, however long the backlog.
_SELECT_PENDING = f"""
SELECT * FROM (
    SELECT DISTINCT ON (target_open_ms) forecast_id, target_open_ms, last_close, array_length(horizon_quantiles, 1),
        coalesce(complete, false) AS done, {_ARRAYS}
    FROM served_forecasts LEFT JOIN outcomes USING (forecast_id)
    WHERE market = %s AND pair = %s AND interval = %s AND target_open_ms < %s
    ORDER BY target_open_ms, made_at, forecast_id
) AS first WHERE NOT done ORDER BY target_open_ms DESC LIMIT %s
"""
_SAVE = f"""
INSERT INTO outcomes (forecast_id, complete, {_ARRAYS}) VALUES %s
ON CONFLICT (forecast_id) DO UPDATE SET
({_ARRAYS}, complete) = ({", ".join(f"excluded.{name}" for name in _ARRAYS.split(", "))}, excluded.complete)
"""
_TEMPLATE = "(%s, %s, %s::smallint[], %s::float8[], %s::real[], %s::real[], %s::real[])"
_LOCK_FORECASTS = "SELECT FROM forecasts WHERE forecast_id = ANY(%s) ORDER BY forecast_id FOR NO KEY UPDATE"
_SELECT_KNOWN = "SELECT forecast_id FROM outcomes WHERE forecast_id = ANY(%s) AND closes[1] <> 'NaN'"
_SELECT_SCORED = f"""
SELECT target_open_ms, made_at, model_version, foundation, last_close, close, naive, ewma, garch,
    horizon_quantiles[%(horizon)s:%(horizon)s]
FROM served_forecasts JOIN outcomes USING (forecast_id),
    unnest({_ARRAYS}) AS outcome (horizon, close, naive, ewma, garch)
WHERE market = %(market)s AND pair = %(pair)s AND interval = %(interval)s
AND target_open_ms BETWEEN %(first_ms)s AND %(last_ms)s
AND horizon = %(horizon)s AND horizon <= array_length(horizon_quantiles, 1)
ORDER BY target_open_ms
"""
_SELECT_SERIES = """
SELECT pair, interval, count(*), min(target_open_ms), max(target_open_ms)
FROM served_forecasts JOIN outcomes USING (forecast_id)
WHERE market = %s AND closes[1] <> 'NaN'
GROUP BY pair, interval ORDER BY pair, interval
"""


class AtHorizon(NamedTuple):
    """The close at a forecast's target, NaN where its candle is missing, and the baselines' losses there.

    The losses are pinball losses in log return; NaN where the close is unknown or too few candles came before.
    """

    close: float
    naive_loss: float
    ewma_loss: float
    garch_loss: float


@dataclass(frozen=True)
class Pending:
    """A served forecast that is not complete. ahead: how many candles it goes; stored: its outcome, by horizon."""

    forecast_id: int
    as_of_ms: int
    last_close: float
    ahead: int
    stored: dict[int, AtHorizon]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a forecast by horizon, the next close first. complete: a later scoring can add nothing."""

    forecast_id: int
    at: dict[int, AtHorizon]
    complete: bool


@dataclass(frozen=True, eq=False)
class ScoredForecasts:
    """The n served forecasts of a pair whose close at one horizon is known, oldest first.

    as_of_ms and made_at: [n], the close that a forecast knew last, and when it was recorded. version, foundation: of
    its model. last_close, close: prices at as_of_ms and at the target. quantiles: prices, [n, 7]. baseline_losses:
    pinball losses of naive, EWMA and GARCH in log return, [n, 3], NaN where there were too few candles to fit them.
    skipped: how many more forecasts there are whose target has passed without a candle.
    """

    interval: Interval
    horizon: int
    as_of_ms: NDArray[np.int64]
    made_at: list[datetime]
    version: NDArray[np.int64]
    foundation: NDArray[np.bool_]
    last_close: NDArray[np.float64]
    close: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    baseline_losses: NDArray[np.float64]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.as_of_ms)

    @property
    def target_close_ms(self) -> NDArray[np.int64]:
        """The time of the close that was forecast, [n]."""
        return self.as_of_ms + self.horizon * self.interval.ms


@dataclass(frozen=True)
class ScoredSeries:
    """How many forecasts of a pair and interval are scored at the next close, and as of when the first and last are."""

    pair: Pair
    interval: Interval
    n: int
    first_as_of_ms: int
    last_as_of_ms: int


def pending(
    database: Database, *, market: str, pair: Pair, interval: Interval, as_of_ms: int, limit: int
) -> list[Pending]:
    """Return served forecasts made before `as_of_ms` that are not complete: the newest `limit`, oldest first.

    Raises psycopg2.Error.
    """
    with database.transaction(timeout_s=_TIMEOUT_S) as cursor:
        cursor.execute(_SELECT_PENDING, (market, pair, interval, as_of_ms, limit))
        rows = cursor.fetchall()
    return [
        Pending(forecast_id, time_ms, last_close, ahead, _by_horizon(*arrays))
        for forecast_id, time_ms, last_close, ahead, _, *arrays in reversed(rows)
    ]


def save(database: Database, found: Collection[Outcome]) -> None:
    """Store outcomes, with an event for each next close that becomes known; a row that exists is replaced.

    Raises psycopg2.Error.
    """
    ids = [each.forecast_id for each in found]
    rows = [
        (
            each.forecast_id,
            each.complete,
            list(each.at),
            *([at[index] for at in each.at.values()] for index in range(4)),
        )
        for each in found
    ]
    with database.transaction(timeout_s=_TIMEOUT_S) as cursor:
        cursor.execute(_LOCK_FORECASTS, (ids,))  # or two savers of one forecast would both find its close new
        cursor.execute(_SELECT_KNOWN, (ids,))
        known = {forecast_id for (forecast_id,) in cursor.fetchall()}
        execute_values(cursor, _SAVE, rows, template=_TEMPLATE)
        events.add_outcomes(cursor, set(ids) - known)


def scored(
    database: Database,
    *,
    market: str,
    pair: Pair,
    interval: Interval,
    horizon: int,
    first_ms: int = 0,
    last_ms: int = _FOREVER_MS,
) -> ScoredForecasts:
    """Return the scored forecasts of one pair at one horizon, as of `first_ms` to `last_ms`. Raises psycopg2.Error."""
    values = {"market": market, "pair": pair, "interval": interval, "horizon": horizon}
    with database.transaction() as cursor:
        cursor.execute(_SELECT_SCORED, values | {"first_ms": first_ms, "last_ms": last_ms})
        rows = cursor.fetchall()
    known = [row for row in rows if not math.isnan(row[5])]
    as_of_ms, made_at, version, foundation, last_close, close, naive, ewma, garch, quantiles = (
        zip(*known, strict=True) if known else ((),) * 10
    )
    return ScoredForecasts(
        interval,
        horizon,
        np.array(as_of_ms, np.int64),
        list(made_at),
        np.array(version, np.int64),
        np.array(foundation, np.bool_),
        np.array(last_close, np.float64),
        np.array(close, np.float64),
        np.array(quantiles, np.float64).reshape(-1, len(QUANTILE_NAMES)),
        np.array([naive, ewma, garch], np.float64).T,
        skipped=len(rows) - len(known),
    )


def scored_series(database: Database, *, market: str) -> list[ScoredSeries]:
    """Return every pair and interval with a scored forecast, sorted by name. Raises psycopg2.Error."""
    with database.transaction() as cursor:
        cursor.execute(_SELECT_SERIES, (market,))
        return [
            ScoredSeries(Pair.parse(pair), Interval(interval), *rest) for pair, interval, *rest in cursor.fetchall()
        ]


def _by_horizon(horizons: list[int] | None, *values: list[float]) -> dict[int, AtHorizon]:
    """Return the arrays of a row by horizon; nothing for a forecast without a row."""
    return {horizon: AtHorizon(*at) for horizon, *at in zip(horizons, *values, strict=True)} if horizons else {}
