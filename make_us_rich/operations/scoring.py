"""Score served forecasts against the closes that followed, and log the scores to MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import forecasts, scores
from make_us_rich.database.pool import Database
from make_us_rich.documents import QUANTILE_NAMES, PairScore, Score
from make_us_rich.forecasting.evaluation import population_shift, score_served
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.registry.client import connect_mlflow

EXPERIMENT = "score_forecasts"
_TAG_MARKET = "market"
_WEEK = 168  # candles that are scored
_BEFORE = 1440  # candles before them, for the naive forecast and the shift of features


@dataclass(frozen=True, eq=False)
class FirstForecasts:
    """The first forecast of each of n candles. `quantiles` is [n, 7], in log returns on the last close."""

    target_open_ms: NDArray[np.int64]
    last_close: NDArray[np.float64]
    quantiles: NDArray[np.float64]


def score(
    database: Database, store: CandleStore, *, market: str, pair: Pair, interval: Interval, as_of_ms: int
) -> Score | None:
    """Score the week before `as_of_ms` and store the score of the day; None if there is no forecast to score."""
    step = interval.ms
    week_ms = as_of_ms - _WEEK * step
    served = _first_forecasts(database, market, pair, interval, week_ms, as_of_ms - step)
    candles = store.read(market, pair, interval, week_ms - _BEFORE * step, as_of_ms)
    _, scored, closed = np.intersect1d(served.target_open_ms, candles.open_time_ms, return_indices=True)
    before, now = candles[candles.open_time_ms < week_ms], candles[candles.open_time_ms >= week_ms]
    if len(scored) == 0 or len(before) < _WEEK or len(now) <= _WEEK // 2:
        return None
    found = score_served(
        served.quantiles[scored],
        np.log(candles.close[closed] / served.last_close[scored]),
        _returns(before, step),
        population_shift(before, now),
    )
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


def _first_forecasts(
    database: Database, market: str, pair: Pair, interval: Interval, first_ms: int, last_ms: int
) -> FirstForecasts:
    found = forecasts.first_of_each_candle(
        database, market=market, pair=pair, interval=interval, first_open_ms=first_ms, last_open_ms=last_ms
    )
    rows = np.array(found, dtype=np.float64).reshape(-1, 2 + len(QUANTILE_NAMES))
    return FirstForecasts(rows[:, 0].astype(np.int64), rows[:, 1], np.log(rows[:, 2:] / rows[:, 1:2]))


def _returns(candles: Candles, step: int) -> NDArray[np.float64]:
    """Return the log returns between neighbouring candles, leaving out those over a gap."""
    returns: NDArray[np.float64] = np.diff(np.log(candles.close))[np.diff(candles.open_time_ms) == step]
    return returns
