"""The foundation that ships with the package, from its registration to the pair's own model, on real servers."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from pydantic import SecretStr

from infra.exchange.simulated import simulate
from make_us_rich.core.errors import RegistryError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair, Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZONS, Forecast, JobResult, NamedVersion, TrainedResult
from make_us_rich.forecasting.onnx_model import OnnxModel
from make_us_rich.forecasting.training import ProcessGroup
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.pipeline.deployment import models_to_serve
from make_us_rich.pipeline.ray_jobs import job_results
from make_us_rich.registry import shipped
from make_us_rich.registry.client import CHAMPION, TAG_SHIPPED, TAG_SKILL_VS_NAIVE, ModelVersion, Registry
from make_us_rich.registry.promotion import TAG_DECISION, promote, promote_manually
from ray_jobs import adapt_foundation
from ray_jobs.job import TrainingJob
from ray_jobs.pair_trainer import PairTrainer
from serve_app.replica.forecaster import Forecaster
from serve_app.replica.models import ModelCache, ModelKey
from tests.support.accounts import transaction
from tests.support.folders import traversable_folder
from tests.support.registry import champion_of, register_graph, version_tags
from tests.support.servers import S3_KEYS, exchange_server, migrated_database, mlflow_server, s3_server
from tests.support.stored_candles import store_candles
from tests.support.tiny_model import tiny_model

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the exporter's and MLflow's own
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

CHILIZ = Pair("chz", "usdt")
SOLANA, DOGE, YOUNG = Pair("sol", "usdt"), Pair("doge", "usdt"), Pair("ltc", "usdt")
SERIES = Series(CHILIZ, Interval.H1)
FOUNDATION = foundation_name(Interval.H1)
HISTORY = 3000


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with traversable_folder() as folder, ExitStack() as contexts:
        made = Settings(
            market="simulated",
            history_candles=HISTORY,
            database_url=SecretStr(contexts.enter_context(migrated_database())),
            exchange_url=contexts.enter_context(exchange_server()),
            mlflow_url=contexts.enter_context(mlflow_server()),
            s3_endpoint_url=contexts.enter_context(s3_server()),
            s3_access_key=SecretStr(S3_KEYS[0]),
            s3_secret_key=SecretStr(S3_KEYS[1]),
            cache_folder=str(folder / "cache"),
        )
        ObjectStore.from_settings(made).ensure_bucket()
        mlflow.set_tracking_uri(made.mlflow_url)
        pairs_table.seed(Database.from_settings(made), [CHILIZ], [])
        yield made


def _train(settings: Settings, as_of_ms: int, job: str) -> JobResult:
    with Registry(settings) as registry:
        PairTrainer(settings, registry, TrainingJob((CHILIZ,), Interval.H1, as_of_ms, job), ProcessGroup()).run(
            [CHILIZ]
        )
    (result,) = job_results(ObjectStore.from_settings(settings), job)
    assert result.status == "trained", result.reason
    return result


def _start_of(result: JobResult) -> str:
    start: str = mlflow.get_run(result.run_id).data.params["start"]
    return start


def test_a_new_pair_is_forecast_by_it_until_its_own_model_replaces_it(settings: Settings) -> None:
    assert shipped.register(settings)[FOUNDATION].reason == "it ships with this version of the package; there was none"
    assert shipped.register(settings)[FOUNDATION].reason == "it is the champion already"
    found = shipped.find("simulated", Interval.H1)
    assert found is not None
    with Registry(settings) as registry:
        (champion,) = registry.versions(FOUNDATION)
        assert registry.find(FOUNDATION, CHAMPION) == champion
        assert champion.tags[TAG_DECISION].startswith("promoted: it ships with")
        assert champion.as_of_ms == found.card.as_of_ms
        assert registry.download(champion) == found.graph
        run = registry.run(champion.run_id)
    assert run.metrics["skill_vs_naive"] == found.card.metrics["skill_vs_naive"]
    described = MlflowClient().get_model_version(FOUNDATION, str(champion.version)).description
    assert "| candles ahead | vs naive (t) |" in described

    model_cache = ModelCache(8)
    first, own, decision = asyncio.run(_serve_train_and_serve_again(settings, model_cache))

    assert (first.model.name, first.model.shipped, first.flags.foundation) == (FOUNDATION, True, True)
    assert first.flags.expired, "its candles ended years ago: a caller must see that"
    assert first.model.as_of_ms == found.card.as_of_ms
    assert (len(first.horizons), first.horizons[0].skill_vs_naive) == (HORIZONS, found.card.metrics["skill_vs_naive"])
    assert decision == "first model of this name"
    assert (own.model.name, own.model.shipped) == (SERIES.name, False)
    assert (own.flags.foundation, own.flags.expired) == (False, False)
    assert len(model_cache) == 1, "the model that was replaced is not kept loaded"
    with transaction(settings.database_url.get_secret_value()) as cursor:
        cursor.execute("SELECT foundation FROM forecasts WHERE pair = %s ORDER BY foundation", (CHILIZ,))
        assert cursor.fetchall() == [(False,), (True,)], "served forecasts are recorded under the model that made them"


async def _serve_train_and_serve_again(settings: Settings, model_cache: ModelCache) -> tuple[Forecast, Forecast, str]:
    """Return the forecast by the foundation, the one by the pair's first model, and the reason of its promotion."""
    replica = Forecaster(SERIES, settings, model_cache)
    try:
        first = await _forecast(replica, settings)
        as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
        store_candles(settings, (BITCOIN, CHILIZ), as_of_ms, HISTORY)
        result = TrainedResult.model_validate(_train(settings, as_of_ms, "first").model_dump())
        assert _start_of(result) == "weights"
        with Registry(settings) as registry, Database.from_settings(settings) as database:
            challenger = registry.get(SERIES.name, result.version)
            decision = promote(registry, database, challenger, result.comparison, expiry_hours=840)
        return first, await _forecast(replica, settings), decision.reason
    finally:
        replica.close()


async def _forecast(replica: Forecaster, settings: Settings) -> Forecast:
    """Let the replica serve what a deployment would make it serve, and return its forecast."""
    with Database.from_settings(settings) as database:
        model = models_to_serve(settings, pairs_table.active(database))[SERIES]
    name, version, run_id = ModelKey.of(model)
    await replica.reconfigure({"name": name, "version": version, "run_id": run_id})
    async with asyncio.timeout(60):
        while (await replica.refresh()).serves != NamedVersion(name=name, version=version):
            await asyncio.sleep(0.05)
    forecast = await replica.forecast()
    assert isinstance(forecast, Forecast), forecast
    return forecast


def test_training_as_of_a_time_that_it_has_seen_beyond_does_not_start_from_it(settings: Settings) -> None:
    found = shipped.find(settings.market, Interval.H1)
    assert found is not None
    shipped.register(settings)
    now_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    market = simulate(now_ms)
    for pair in (BITCOIN, CHILIZ):
        candles = market[pair.symbol]
        newest = candles[candles.open_time_ms < now_ms][-HISTORY:]
        moved = replace(newest, open_time_ms=newest.open_time_ms - now_ms + found.card.as_of_ms)
        CandleStore.from_settings(settings).write(settings.market, pair, Interval.H1, moved)

    assert _start_of(_train(settings, found.card.as_of_ms - HOUR_MS, "before")) == "from scratch"
    assert _start_of(_train(settings, found.card.as_of_ms, "after")) == "weights"


def test_a_newer_package_replaces_a_shipped_one_and_never_an_own_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped.register(settings)
    with Registry(settings) as registry:
        before = champion_of(registry, FOUNDATION)
        shutil.copytree(shipped.FOLDER, tmp_path / "foundations")
        monkeypatch.setattr(shipped, "FOLDER", tmp_path / "foundations")
        found = shipped.find("simulated", Interval.H1)
        assert found is not None
        shipped.write(
            shipped.ShippedFoundation(found.weights, found.graph, found.card.model_copy(update={"digest": "newer"}))
        )

        reason = shipped.register(settings)[FOUNDATION].reason
        assert reason.endswith(f"in place of version {before.version}, which shipped with another")
        assert champion_of(registry, FOUNDATION).tags[TAG_SHIPPED] == "newer"

        monkeypatch.undo()
        shipped.register(settings)  # the package before, which is registered already
        assert champion_of(registry, FOUNDATION).version == before.version

        own = register_graph(FOUNDATION, tiny_model("foundation"), version_tags())
        registry.set_alias(FOUNDATION, CHAMPION, own)
        decision = shipped.register(settings)[FOUNDATION]
        assert (decision.promoted, decision.reason) == (False, f"version {own} is the installation's own")
        assert champion_of(registry, FOUNDATION).version == own
        assert len(registry.versions(FOUNDATION)) == 3


def test_it_is_adapted_to_a_pair_without_a_model_and_serves_that_pair_alone(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    store, market = CandleStore.from_settings(settings), simulate(as_of_ms)
    closed = {pair: market[pair.symbol] for pair in (BITCOIN, SOLANA, DOGE, YOUNG)}
    closed = {pair: candles[candles.open_time_ms < as_of_ms] for pair, candles in closed.items()}
    for pair, count in ((BITCOIN, HISTORY), (SOLANA, 2300), (DOGE, 2300), (YOUNG, 1500)):
        store.write(settings.market, pair, Interval.H1, closed[pair][-count:])
    shipped.register(settings)
    found = shipped.find(settings.market, Interval.H1)
    assert found is not None
    with Registry(settings) as registry, Database.from_settings(settings) as database:
        foundation = registry.versions_tagged(FOUNDATION, TAG_SHIPPED, found.card.digest)[0]
        registry.set_alias(FOUNDATION, CHAMPION, foundation.version)

        def job(as_of_ms: int) -> str:
            adapt_foundation.adapt(settings, TrainingJob((CHILIZ, SOLANA, YOUNG), Interval.H1, as_of_ms, "adapt"))
            return capsys.readouterr().out

        def served(pair: Pair) -> ModelVersion:
            models = models_to_serve(settings, [pairs_table.put(database, pair, plan="pooled")])
            return models[Series(pair, Interval.H1)]

        assert served(SOLANA) == served(YOUNG) == foundation
        printed = job(as_of_ms)
        assert f"{CHILIZ}: it has a model of its own" in printed
        assert f"{YOUNG}: not adapted: " in printed
        assert "usable candles to train on, 672 needed" in printed

        model = served(SOLANA)
        assert served(YOUNG) == foundation
        assert f"{SOLANA}: version {model.version} of {FOUNDATION}, " in printed
        described = model.describe(as_of_ms)
        assert (described.name, described.shipped, described.adapted_ms) == (FOUNDATION, True, as_of_ms)
        assert described.as_of_ms == found.card.as_of_ms, "its weights are not newer"
        graph = OnnxModel.load(registry.download(model), FOUNDATION)
        window = [closed[pair][-1000:] for pair in (SOLANA, BITCOIN)]
        before = OnnxModel.load(found.graph, FOUNDATION).quantiles(*window)
        assert graph.quantiles(*window) != pytest.approx(before, rel=1e-6)
        assert model.horizon_skills[0] == model.number(TAG_SKILL_VS_NAIVE) != foundation.number(TAG_SKILL_VS_NAIVE)

        assert f"{SOLANA}: it was adapted less than a day before" in job(as_of_ms)
        assert f"{SOLANA}: only the newest candles are adapted to" in job(as_of_ms - 30 * HOUR_MS)
        assert served(SOLANA) == model
        too_young = TrainingJob((DOGE,), Interval.H1, as_of_ms, "too-young")
        PairTrainer(settings, registry, too_young, ProcessGroup()).run([DOGE])
        assert f"{DOGE}: failed: " in (printed := capsys.readouterr().out)
        assert f"{DOGE}: version {served(DOGE).version} of {FOUNDATION}, " in printed, "training adapts it at once"

        with pytest.raises(RegistryError, match=f"is adapted to {SOLANA}, and cannot serve other pairs"):
            promote_manually(registry, database, FOUNDATION, model.version, by="ada")

        (newer,) = registry.versions_tagged(FOUNDATION, TAG_SHIPPED, "newer")
        registry.set_alias(FOUNDATION, CHAMPION, newer.version)
        assert served(SOLANA) == newer, "it was made of another foundation"
        shipped.register(settings)
        assert champion_of(registry, FOUNDATION).version == foundation.version
        assert served(SOLANA) == model
