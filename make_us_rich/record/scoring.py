"""Score the last week of served forecasts, and log the scores to MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import outcomes, scores
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, SCORED_CANDLES, PairScore, Score
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.record.drift import score_served
from make_us_rich.record.shift import population_shift
from make_us_rich.registry.client import connect_mlflow

EXPERIMENT = "score_forecasts"
_TAG_MARKET = "market"
_BEFORE = 1440  # candles before the week, from which the market may have shifted


def score(
    database: Database, store: CandleStore, *, market: str, pair: Pair, interval: Interval, as_of_ms: int
) -> Score | None:
    """Score the last 168 candles before `as_of_ms` from the stored outcomes; None if no forecast is to score.

    A forecast is scored at each of its horizons whose target closed within them. The score of the day is stored.
    """
    first_ms = as_of_ms - SCORED_CANDLES * interval.ms
    candles = store.read(market, pair, interval, first_ms - _BEFORE * interval.ms, as_of_ms)
    before, now = candles[candles.open_time_ms < first_ms], candles[candles.open_time_ms >= first_ms]
    if len(before) < SCORED_CANDLES or len(now) <= SCORED_CANDLES // 2:
        return None
    week = [
        outcomes.scored(
            database,
            market=market,
            pair=pair,
            interval=interval,
            horizon=horizon,
            first_ms=first_ms,
            last_ms=as_of_ms - horizon * interval.ms,
        )
        for horizon in HORIZON_GRID
    ]
    found = score_served(week, population_shift(before, now))
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
