"""A real run of train_pairs, under Airflow's own trigger rules, whose job trains one pair and postpones the other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import mlflow
import pytest
from mlflow import MlflowClient

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import Comparison, JobResult, NamedVersion
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.pipeline.ray_jobs import postponed, write_result
from tests.support.airflow_runs import DagEnvironment
from tests.support.app_threads import running_app
from tests.support.ray_stand_in import RayStandIn
from tests.support.registry import version_tags

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("three_active_pairs")]

# Pairs of no other test, because the tests share the registry and the stored candles.
TRAINED, POSTPONED = Pair("bnb", "usdt"), Pair("atom", "usdt")


@pytest.fixture
def ray(world: DagEnvironment) -> Iterator[tuple[DagEnvironment, RayStandIn]]:
    settings, cluster = world.typed_settings(), RayStandIn()
    version = _registered(settings)

    def train(submission_id: str) -> None:
        store = ObjectStore.from_settings(settings)
        write_result(store, submission_id, version)
        write_result(store, submission_id, postponed(POSTPONED))

    cluster.run_job = train
    with running_app(cluster.app()) as url, Database(world.database_url) as database:
        for item in pairs_table.active(database):
            pairs_table.put(database, item.pair, plan="off")
        for pair in (TRAINED, POSTPONED):
            pairs_table.put(database, pair, plan="dedicated")
        connection = json.dumps({"conn_type": "http", "host": url})
        changed = {"MUR_RAY_URL": url, "MUR_API_URL": url, "AIRFLOW_CONN_RAY_DEFAULT": connection}
        yield replace(world, settings={**world.settings, **changed}), cluster
        for pair in (TRAINED, POSTPONED):
            pairs_table.remove(database, pair)


def test_a_champion_is_served_although_another_pair_is_postponed(ray: tuple[DagEnvironment, RayStandIn]) -> None:
    environment, cluster = ray
    name = Series(TRAINED, Interval.H1).name

    run = environment.run("train_pairs", {})

    decided = {label: state for (task, label), state in run.states.items() if task == "promote"}
    assert decided == {TRAINED: "success", POSTPONED: "skipped"}, run.log[-5000:]
    assert run.states["refresh_serving", ""] == "success", run.log[-5000:]
    assert cluster.served[name] == NamedVersion(name=name, version=1)
    assert run.state == "success"


def _registered(settings: Settings) -> JobResult:
    """Register a version as a training job does; return the job's result for it."""
    name, as_of_ms = Series(TRAINED, Interval.H1).name, Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    mlflow.set_tracking_uri(settings.mlflow_url)
    client = MlflowClient()
    run = client.create_run("0")
    client.create_registered_model(name)
    version = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id, tags=version_tags())
    comparison = Comparison(
        champion_version=None,
        challenger_pinball=1e-3,
        champion_pinball=None,
        t=None,
        naive_pinball=1.1e-3,
        t_vs_naive=3.0,
        skill_vs_naive=0.05,
        mean=None,
        challenger_horizons=1,
        champion_horizons=1,
    )
    return JobResult(
        pair=TRAINED,
        status="trained",
        seconds=1.0,
        name=name,
        interval="1h",
        as_of_ms=as_of_ms,
        metrics={"skill_vs_naive": 0.07, "coverage_80": 0.8},
        comparison=comparison,
        version=int(version.version),
        run_id=run.info.run_id,
    )
