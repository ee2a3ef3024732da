"""Scores in MLflow: one run a market, pair and interval, whose metrics go on with each scoring."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from make_us_rich.core.interval import Interval
from make_us_rich.core.settings import Settings
from make_us_rich.registry.mlflow import connect

EXPERIMENT = "score_forecasts"
_MARKET = "market"


def log(settings: Settings, scored: Iterable[dict[str, Any]], market: str) -> None:
    """`scored`: items with pair, interval, as_of_ms and a verdict. A repeated scoring adds the same points again."""
    from mlflow.entities import Metric

    client = connect(settings)
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
    for item in scored:
        verdict, at_ms = item["verdict"], item["as_of_ms"]
        names = ("n", "skill_vs_naive", "t_vs_naive", "coverage_80", "drifted")
        values = {name: float(verdict[name]) for name in names}
        values |= {f"shift_{name}": value for name, value in verdict["shift"].items()}
        step = at_ms // Interval.parse(item["interval"]).ms
        metrics = [Metric(name, value, at_ms, step) for name, value in values.items()]
        run_id = _run_of(client, experiment, f"{item['pair']}_{item['interval']}", market)
        client.log_batch(run_id, metrics=metrics)


def _run_of(client: Any, experiment: str, name: str, market: str) -> str:
    query = f"tags.`mlflow.runName` = '{name}' AND tags.{_MARKET} = '{market}'"
    found = client.search_runs([experiment], filter_string=query, max_results=1)
    run = found[0] if found else client.create_run(experiment, run_name=name, tags={_MARKET: market})
    run_id: str = run.info.run_id
    return run_id
