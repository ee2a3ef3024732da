"""Join what was forecast with what came, and judge it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import forecasts, scores
from make_us_rich.documents import QUANTILE_NAMES, Score
from make_us_rich.forecasting.drift import judge, population_shift
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles

_WEEK = 168  # candles that are judged, each time
_BEFORE = 1440  # candles that they are judged beside


@dataclass(frozen=True, eq=False)
class Served:
    """What was forecast first for each candle: [n] targets, [n, 7] quantiles as log returns of the last close."""

    target_open_ms: NDArray[np.int64]
    last_close: NDArray[np.float64]
    quantiles: NDArray[np.float64]


def score(
    database_url: str, store: CandleStore, *, market: str, pair: Pair, interval: Interval, as_of_ms: int
) -> Score | None:
    """Judge the week before `as_of_ms` and keep the result, the day's newest; None without a forecast to judge."""
    step = interval.ms
    week_ms = as_of_ms - _WEEK * step
    served = _served(database_url, market, pair, interval, week_ms, as_of_ms - step)
    candles = store.read(market, pair, interval, week_ms - _BEFORE * step, as_of_ms)
    _, forecast, came = np.intersect1d(served.target_open_ms, candles.open_time_ms, return_indices=True)
    before, now = candles[candles.open_time_ms < week_ms], candles[candles.open_time_ms >= week_ms]
    if len(forecast) == 0 or len(before) < _WEEK or len(now) <= _WEEK // 2:
        return None
    verdict = judge(
        served.quantiles[forecast],
        np.log(candles.close[came] / served.last_close[forecast]),
        _returns(before, step),
        population_shift(before, now),
    )
    scores.keep(database_url, verdict, market=market, pair=pair, interval=interval, as_of_ms=as_of_ms)
    return verdict


def _served(database_url: str, market: str, pair: Pair, interval: Interval, first_ms: int, last_ms: int) -> Served:
    found = forecasts.first_of_each_candle(
        database_url, market=market, pair=pair, interval=interval, first_open_ms=first_ms, last_open_ms=last_ms
    )
    rows = np.array(found, dtype=np.float64).reshape(-1, 2 + len(QUANTILE_NAMES))
    return Served(rows[:, 0].astype(np.int64), rows[:, 1], np.log(rows[:, 2:] / rows[:, 1:2]))


def _returns(candles: Candles, step: int) -> NDArray[np.float64]:
    """Log returns from one candle to the next; none over a gap."""
    returns: NDArray[np.float64] = np.diff(np.log(candles.close))[np.diff(candles.open_time_ms) == step]
    return returns
