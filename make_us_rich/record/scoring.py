"""Score served forecasts against the closes that followed, and log the scores to MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import forecasts, scores
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, QUANTILE_NAMES, SCORED_CANDLES, PairScore, Score
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.record.drift import ServedForecasts, population_shift, score_served
from make_us_rich.registry.client import connect_mlflow

EXPERIMENT = "score_forecasts"
_TAG_MARKET = "market"
_BEFORE = 1440  # candles before them, for the naive forecast and the shift of features

Array = NDArray[np.float64]


def score(
    database: Database, store: CandleStore, *, market: str, pair: Pair, interval: Interval, as_of_ms: int
) -> Score | None:
    """Score the last 168 candles before `as_of_ms` and store the score of the day; None if no forecast is to score.

    A forecast is scored at each of its horizons whose target closed within them.
    """
    step = interval.ms
    first_ms = as_of_ms - SCORED_CANDLES * step
    first = forecasts.first_as_of_each_time(
        database, market=market, pair=pair, interval=interval, first_ms=first_ms, last_ms=as_of_ms - step
    )
    candles = store.read(market, pair, interval, first_ms - _BEFORE * step, as_of_ms)
    before, now = candles[candles.open_time_ms < first_ms], candles[candles.open_time_ms >= first_ms]
    if not first or len(before) < SCORED_CANDLES or len(now) <= SCORED_CANDLES // 2:
        return None
    past = [_returns(before, step, horizon) for horizon in HORIZON_GRID]
    found = score_served(_with_outcomes(first, now, past, first_ms, step), population_shift(before, now))
    if found is not None:
        scores.save(database, found, market=market, pair=pair, interval=interval, as_of_ms=as_of_ms)
    return found


def log_to_mlflow(settings: Settings, scored: Iterable[PairScore]) -> None:
    """Add scores as metrics to one MLflow run for each market, pair and interval. Leaves out pairs without a score."""
    from mlflow.entities import Metric

    client = connect_mlflow(settings)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    for item in scored:
        if item.score is None:
            continue
        values = item.score.model_dump(include={"n", "skill_vs_naive", "t_vs_naive", "coverage_80", "drifted"})
        values |= {f"shift_{name}": value for name, value in item.score.shift.items()}
        for at in item.score.horizons:
            named = at.model_dump(exclude={"horizon"}, exclude_none=True)
            values |= {f"{name}_h{at.horizon}": value for name, value in named.items()}
        step = item.as_of_ms // item.interval.ms
        metrics = [Metric(name, float(value), item.as_of_ms, step) for name, value in values.items()]
        run_id = _mlflow_run(client, experiment_id, f"{item.pair}_{item.interval}", item.market)
        client.log_batch(run_id, metrics=metrics)


def _mlflow_run(client: Any, experiment_id: str, name: str, market: str) -> str:
    """Return the id of the run with this name and market; creates it the first time."""
    query = f"tags.`mlflow.runName` = '{name}' AND tags.{_TAG_MARKET} = '{market}'"
    found = client.search_runs([experiment_id], filter_string=query, max_results=1)
    run = found[0] if found else client.create_run(experiment_id, run_name=name, tags={_TAG_MARKET: market})
    run_id: str = run.info.run_id
    return run_id


def _with_outcomes(
    first: Sequence[forecasts.ServedForecast], now: Candles, past: Sequence[Array], first_ms: int, step: int
) -> ServedForecasts:
    """Add the actual returns to the forecasts of the scored candles, `now`, which begin at `first_ms`.

    A forecast is skipped at a horizon when a candle is missing between its as_of and its target.
    """
    opened = (now.open_time_ms - first_ms) // step
    closes = np.full(opened[-1] + 1, np.nan)
    closes[opened] = now.close
    missing = np.cumsum(np.isnan(closes), dtype=np.int64)
    begin = np.array([(item.as_of_ms - first_ms) // step for item in first])[:, None]  # the first candle after as_of
    target = begin + np.array(HORIZON_GRID) - 1
    last_close = np.array([item.last_close for item in first])[:, None]
    quantiles = np.log(_at_scored_horizons(first) / last_close[:, :, None])
    closed = ~np.isnan(quantiles[:, :, 0]) & (target < len(closes))
    newest = len(closes) - 1
    target = np.minimum(target, newest)
    gap = missing[target] - np.where(begin > 0, missing[np.minimum(begin - 1, newest)], 0) > 0
    actual = np.where(closed & ~gap, np.log(closes[target] / last_close), np.nan)
    return ServedForecasts(quantiles, actual, (closed & gap).sum(axis=0), past)


def _at_scored_horizons(first: Sequence[forecasts.ServedForecast]) -> Array:
    """Return the prices [n, HORIZON_GRID, 7]; NaN at horizons that a model did not forecast."""
    prices = np.full((len(first), HORIZON_GRID[-1], len(QUANTILE_NAMES)), np.nan)
    for row, item in enumerate(first):
        prices[row, : len(item.prices)] = item.prices[: HORIZON_GRID[-1]]
    return prices[:, np.array(HORIZON_GRID) - 1]


def _returns(candles: Candles, step: int, horizon: int) -> Array:
    """Return the log returns over `horizon` candles, leaving out those over a gap."""
    logs, times = np.log(candles.close), candles.open_time_ms
    returns: Array = (logs[horizon:] - logs[:-horizon])[times[horizon:] - times[:-horizon] == horizon * step]
    return returns
