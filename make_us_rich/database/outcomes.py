"""The table `outcomes`: the outcome of each served forecast, at each horizon of HORIZON_GRID."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from psycopg2.extras import execute_values

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import events
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, QUANTILE_NAMES

_LOSSES = ("naive_losses", "ewma_losses", "garch_losses")
_TIMEOUT_S = 30.0  # of the pipeline's statements; a page waits less
# Of several models the one that forecast first counts.
_SELECT_PENDING = f"""
SELECT * FROM (
    SELECT DISTINCT ON (target_open_ms) forecast_id, target_open_ms, last_close,
        coalesce(array_length(horizon_quantiles, 1), 1), closes, {", ".join(_LOSSES)}, coalesce(complete, false) AS done
    FROM served_forecasts LEFT JOIN outcomes USING (forecast_id)
    WHERE market = %s AND pair = %s AND interval = %s AND target_open_ms < %s
    ORDER BY target_open_ms, made_at, forecast_id
) AS first WHERE NOT done ORDER BY target_open_ms LIMIT %s
"""
_SAVE = f"""
INSERT INTO outcomes (forecast_id, closes, {", ".join(_LOSSES)}, complete) VALUES %s
ON CONFLICT (forecast_id) DO UPDATE SET
closes = excluded.closes, {", ".join(f"{name} = excluded.{name}" for name in _LOSSES)}, complete = excluded.complete
"""
_LOCK_FORECASTS = "SELECT FROM forecasts WHERE forecast_id = ANY(%s) ORDER BY forecast_id FOR NO KEY UPDATE"
_SELECT_KNOWN = "SELECT forecast_id FROM outcomes WHERE forecast_id = ANY(%s) AND closes[1] <> 'NaN'"
_SELECT_SCORED = f"""
SELECT target_open_ms, made_at, model_version, foundation, last_close, closes[%(column)s],
    {", ".join(f"{name}[%(column)s]" for name in _LOSSES)},
    (coalesce(horizon_quantiles, ARRAY[ARRAY[{", ".join(QUANTILE_NAMES)}]]::real[]))[%(horizon)s:%(horizon)s]
FROM served_forecasts JOIN outcomes USING (forecast_id)
WHERE market = %(market)s AND pair = %(pair)s AND interval = %(interval)s AND closes[%(column)s] <> 'NaN'
ORDER BY target_open_ms
"""
_SELECT_SERIES = """
SELECT pair, interval, count(*), min(target_open_ms), max(target_open_ms)
FROM served_forecasts JOIN outcomes USING (forecast_id)
WHERE market = %s AND closes[1] <> 'NaN'
GROUP BY pair, interval ORDER BY pair, interval
"""


@dataclass(frozen=True)
class Pending:
    """A served forecast with horizons whose outcome is not stored yet.

    horizons: how many candles ahead it goes. closes and losses: at each horizon of HORIZON_GRID what is stored, NaN
    where nothing is; losses: [3][G], naive, EWMA and GARCH.
    """

    forecast_id: int
    as_of_ms: int
    last_close: float
    horizons: int
    closes: list[float]
    losses: list[list[float]]


@dataclass(frozen=True)
class Outcome:
    """The actual closes and baselines' losses of a forecast: see Pending. complete: a later scoring can add nothing."""

    forecast_id: int
    closes: list[float]
    losses: list[list[float]]
    complete: bool


@dataclass(frozen=True, eq=False)
class ScoredForecasts:
    """The n served forecasts of a pair whose close at one horizon came, oldest first.

    as_of_ms and made_at: [n], the close that a forecast knew last, and when it was recorded. version, foundation: of
    its model. last_close, close: prices at as_of_ms and at the target. quantiles: prices, [n, 7]. baseline_losses:
    pinball losses of naive, EWMA and GARCH in log return, [n, 3], NaN where there were too few candles to fit them.
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

    def __len__(self) -> int:
        return len(self.as_of_ms)

    @property
    def target_close_ms(self) -> NDArray[np.int64]:
        """When the close came that was forecast, [n]."""
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
    """Return the served forecasts made before `as_of_ms` that are not complete, oldest first. Raises psycopg2.Error."""
    unknown = [float("nan")] * len(HORIZON_GRID)
    with database.transaction(timeout_s=_TIMEOUT_S) as cursor:
        cursor.execute(_SELECT_PENDING, (market, pair, interval, as_of_ms, limit))
        rows = cursor.fetchall()
    return [
        Pending(
            forecast_id,
            pending_ms,
            last_close,
            horizons,
            closes or unknown,
            [each or unknown for each in (naive, ewma, garch)],
        )
        for forecast_id, pending_ms, last_close, horizons, closes, naive, ewma, garch, _ in rows
    ]


def save(database: Database, found: Collection[Outcome]) -> None:
    """Store outcomes, with an event for each next close that becomes known; a row that exists is replaced.

    Raises psycopg2.Error.
    """
    rows = [(each.forecast_id, each.closes, *each.losses, each.complete) for each in found]
    ids = [each.forecast_id for each in found]
    with database.transaction(timeout_s=_TIMEOUT_S) as cursor:
        cursor.execute(_LOCK_FORECASTS, (ids,))  # or two savers of one forecast would both find its close new
        cursor.execute(_SELECT_KNOWN, (ids,))
        known = {forecast_id for (forecast_id,) in cursor.fetchall()}
        execute_values(cursor, _SAVE, rows, template="(%s, %s::float8[], %s::real[], %s::real[], %s::real[], %s)")
        events.add_outcomes(cursor, set(ids) - known)


def scored(database: Database, *, market: str, pair: Pair, interval: Interval, horizon: int) -> ScoredForecasts:
    """Return the scored forecasts of one pair at one horizon of HORIZON_GRID. Raises psycopg2.Error."""
    values = {"market": market, "pair": pair, "interval": interval, "horizon": horizon}
    with database.transaction() as cursor:
        cursor.execute(_SELECT_SCORED, values | {"column": HORIZON_GRID.index(horizon) + 1})
        rows = cursor.fetchall()
    as_of_ms, made_at, version, foundation, last_close, close, naive, ewma, garch, quantiles = (
        zip(*rows, strict=True) if rows else ((),) * 10
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
    )


def scored_series(database: Database, *, market: str) -> list[ScoredSeries]:
    """Return every pair and interval with a scored forecast, sorted by name. Raises psycopg2.Error."""
    with database.transaction() as cursor:
        cursor.execute(_SELECT_SERIES, (market,))
        return [
            ScoredSeries(Pair.parse(pair), Interval(interval), *rest) for pair, interval, *rest in cursor.fetchall()
        ]
