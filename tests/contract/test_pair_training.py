"""The result of training a pair, and what a second run does with it: on a real S3, MLflow and exchange."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import mlflow
import psutil
import pytest
from pydantic import SecretStr

from make_us_rich.core.errors import StoreError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import HORIZON_GRID, HORIZONS, JobResult
from make_us_rich.forecasting import pipeline
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.pipeline import fit_foundation
from make_us_rich.forecasting.training import ProcessGroup
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.operations.ray_jobs import job_results, write_result
from make_us_rich.registry.client import CHAMPION, Registry
from make_us_rich.registry.promotion import decide
from make_us_rich.registry.publish import publish
from ray_jobs import pair_trainer
from ray_jobs.job import TrainingJob
from ray_jobs.pair_trainer import PairTrainer
from tests.support.processes import PROJECT_ROOT, running
from tests.support.ray_cluster import driver_environment, fixed_cluster
from tests.support.registry import register_graph, version_tags
from tests.support.servers import S3_KEYS, exchange_server, mlflow_server, s3_server
from tests.support.tiny_model import LOG_RETURNS, tiny_model
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the exporter's and MLflow's own
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

CHILIZ, ETHER = Pair("chz", "usdt"), Pair("eth", "usdt")
NAME = f"{BITCOIN}_1h"
HISTORY = 3000


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with ExitStack() as contexts:
        made = Settings(
            market="simulated",
            history_candles=HISTORY,
            exchange_url=contexts.enter_context(exchange_server()),
            mlflow_url=contexts.enter_context(mlflow_server()),
            s3_endpoint_url=contexts.enter_context(s3_server()),
            s3_access_key=SecretStr(S3_KEYS[0]),
            s3_secret_key=SecretStr(S3_KEYS[1]),
        )
        yield made


@pytest.fixture(scope="module")
def as_of_ms(settings: Settings) -> int:
    """Return the newest close, after storing the candles up to it in S3."""
    newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    store = CandleStore.from_settings(settings)
    ObjectStore.from_settings(settings).ensure_bucket()
    for pair in (BITCOIN, CHILIZ):
        store.update(
            ExchangeClient(settings.exchange_url),
            market=settings.market,
            pair=pair,
            interval=Interval.H1,
            as_of_ms=newest_ms,
            history_candles=HISTORY,
        )
    return newest_ms


def _train(settings: Settings, as_of_ms: int, job: str, pair: Pair = BITCOIN) -> JobResult:
    (result,) = _train_all(settings, as_of_ms, job, [pair], batch_size=1).values()
    return result


def _train_all(
    settings: Settings, as_of_ms: int, job: str, pairs: list[Pair], batch_size: int
) -> dict[Pair, JobResult]:
    with Registry(settings) as registry:
        training_job = TrainingJob(tuple(pairs), Interval.H1, as_of_ms, job)
        PairTrainer(settings, registry, training_job, ProcessGroup()).run(pairs, batch_size)
    results = job_results(ObjectStore.from_settings(settings), job)
    return {result.pair: result for result in results}


def _serve_foundation(settings: Settings, as_of_ms: int, config: TrainingConfig) -> None:
    candles = CandleStore.from_settings(settings).read(
        settings.market, BITCOIN, Interval.H1, as_of_ms - HISTORY * HOUR_MS, as_of_ms
    )
    shared = fit_foundation({BITCOIN: candles}, candles, interval=Interval.H1, as_of_ms=as_of_ms, config=config)
    name = foundation_name(Interval.H1)
    mlflow.set_tracking_uri(settings.mlflow_url)
    _, version = publish(shared, name=name, as_of_ms=as_of_ms, market=settings.market, tags={})
    with Registry(settings) as registry:
        registry.set_alias(name, CHAMPION, version)


def test_a_pair_is_trained_once_as_of_a_time(settings: Settings, as_of_ms: int) -> None:
    first = _train(settings, as_of_ms, "first")
    again = _train(settings, as_of_ms, "again")

    assert (first.status, first.name, first.version) == ("trained", NAME, 1), first.reason
    assert first.metrics["holdout_candles"] > 100
    assert [each.prices() for each in first.forecast.horizons] == [
        sorted(each.prices()) for each in first.forecast.horizons
    ]
    assert len(first.forecast.horizons) == HORIZONS
    assert (first.comparison.challenger_horizons, first.comparison.mean) == (HORIZONS, None)
    assert again == first.model_copy(update={"seconds": again.seconds})
    with Registry(settings) as registry:
        assert [version.version for version in registry.versions(NAME)] == [1]


def test_past_its_time_a_job_trains_its_first_pair_and_postpones_the_others(settings: Settings, as_of_ms: int) -> None:
    store, pairs, before_ms = ObjectStore.from_settings(settings), [CHILIZ, BITCOIN], as_of_ms - 8 * HOUR_MS
    with Registry(settings) as registry:
        late = TrainingJob(tuple(pairs), Interval.H1, before_ms, "late", stop_at_ms=1)
        PairTrainer(settings, registry, late, ProcessGroup()).run(pairs)
    results = {result.pair: result for result in job_results(store, "late")}

    assert (results[CHILIZ].status, results[BITCOIN].status) == ("trained", "postponed")
    assert "MUR_TRAINING_MINUTES" in results[BITCOIN].reason
    assert _train(settings, before_ms, "after it").status == "trained"

    too_late = ["--pairs", ",".join(pairs), "--as-of-ms", str(as_of_ms), "--stop-at-ms", "1"]
    environment = {
        "MUR_S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "MUR_S3_ACCESS_KEY": S3_KEYS[0],
        "MUR_S3_SECRET_KEY": S3_KEYS[1],
        "RAY_ADDRESS": "127.0.0.1:1",  # nobody is there: no worker is started
    }
    command = [sys.executable, "-m", "ray_jobs.train_pairs", *too_late, "--submission-id", "too late"]
    subprocess.run(command, env=os.environ | environment, cwd=PROJECT_ROOT, check=True, timeout=120)
    assert {result.status for result in job_results(store, "too late")} == {"postponed"}


@pytest.mark.parametrize("interval", [Interval.H4, Interval.D1])
def test_a_pair_is_trained_on_candles_of_other_intervals(settings: Settings, as_of_ms: int, interval: Interval) -> None:
    as_of_ms = interval.last_close_ms(as_of_ms)
    for pair in (BITCOIN, CHILIZ):
        CandleStore.from_settings(settings).update(
            ExchangeClient(settings.exchange_url),
            market=settings.market,
            pair=pair,
            interval=interval,
            as_of_ms=as_of_ms,
            history_candles=settings.training_candles(interval),
        )
    job = TrainingJob((CHILIZ,), interval, as_of_ms, f"job-{interval}")
    with Registry(settings) as registry:
        PairTrainer(settings, registry, job, ProcessGroup()).run([CHILIZ])
        (result,) = job_results(ObjectStore.from_settings(settings), f"job-{interval}")
        assert (result.status, result.name, result.interval) == ("trained", f"chz_usdt_{interval}", interval), result
        tags = registry.get(f"chz_usdt_{interval}", result.version).tags
    assert tags["as_of_ms"] == str(as_of_ms)
    assert result.forecast is not None
    assert len(result.forecast.horizons) == HORIZONS


def test_a_worker_death_after_registration_makes_no_second_version(settings: Settings, as_of_ms: int) -> None:
    store = ObjectStore.from_settings(settings)
    trained = _train(settings, as_of_ms, "first")
    begun = trained.model_copy(update={"status": "begun", "version": None, "run_id": None})
    write_result(store, "first", begun)

    again = _train(settings, as_of_ms, "first")

    assert (again.status, again.version, again.run_id) == ("trained", 1, trained.run_id)


def test_a_pair_that_kills_its_worker_is_given_up(settings: Settings, as_of_ms: int) -> None:
    store = ObjectStore.from_settings(settings)
    earlier_ms = as_of_ms - 3_600_000
    deadly = JobResult(pair=BITCOIN, status="begun", lost=1, reason="its worker died while it was trained")
    write_result(store, "deadly", deadly)

    assert _train(settings, earlier_ms, "deadly") == deadly


def test_a_pair_that_kills_its_worker_at_each_upload_is_given_up(
    settings: Settings, as_of_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing = Mock(side_effect=SystemExit)  # ends the worker, as a kill does
    monkeypatch.setattr(pair_trainer, "publish", publishing)
    for _ in range(2):
        with pytest.raises(SystemExit):
            _train(settings, as_of_ms - 6 * HOUR_MS, "deadly upload")

    given_up = _train(settings, as_of_ms - 6 * HOUR_MS, "deadly upload")

    assert (given_up.status, given_up.lost, given_up.reason) == ("begun", 1, "its worker died at the upload")
    assert publishing.call_count == 2


def test_a_failed_pair_has_the_reason(settings: Settings, as_of_ms: int) -> None:
    result = _train(settings, as_of_ms, "failing", ETHER)

    assert (result.pair, result.status, result.kind) == ("eth_usdt", "failed", "NotEnoughHistory")


def test_a_foundation_of_another_architecture_is_not_fine_tuned(settings: Settings, as_of_ms: int) -> None:
    """The shipped one, an lstm, stands in for it where it fits."""
    before_ms = as_of_ms - 2 * HOUR_MS
    _serve_foundation(settings, before_ms, TrainingConfig(architecture="gru"))

    for architecture, start in (("linear", "nothing"), ("gru", "weights"), ("lstm", "weights")):
        chosen = settings.model_copy(update={"architecture": architecture})
        result = _train(chosen, before_ms + HOUR_MS * (start == "weights"), architecture)
        assert result.status == "trained", result.reason
        assert mlflow.get_run(result.run_id).data.params["start"] == start, architecture


def test_pairs_trained_as_one_batch_end_as_they_would_alone(
    settings: Settings, as_of_ms: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before_ms = as_of_ms - 4 * HOUR_MS
    _serve_foundation(settings, before_ms, TrainingConfig())
    pairs = [BITCOIN, CHILIZ, ETHER]

    results = _train_all(settings, before_ms, "batched", pairs, batch_size=8)

    assert f"{BITCOIN}, {CHILIZ}: trained as one batch" in capsys.readouterr().out
    assert results[ETHER].kind == "NotEnoughHistory"
    for pair in pairs[:2]:
        assert results[pair].status == "trained", results[pair].reason
        assert results[pair].seconds > 0
        assert mlflow.get_run(results[pair].run_id).data.params["start"] == "weights"


def test_after_a_lost_worker_pairs_are_trained_one_by_one(
    settings: Settings, as_of_ms: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before_ms = as_of_ms - 3 * HOUR_MS
    lost = JobResult(pair=BITCOIN, status="begun", lost=0, reason="its worker died while it was trained")
    write_result(ObjectStore.from_settings(settings), "lost", lost)

    results = _train_all(settings, before_ms, "lost", [BITCOIN, CHILIZ], batch_size=8)

    assert "trained as one batch" not in capsys.readouterr().out
    assert [result.status for result in results.values()] == ["trained", "trained"]


def test_a_job_prepares_each_pair_once_and_reads_bitcoin_once(
    settings: Settings, as_of_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_ms, pairs = as_of_ms - 5 * HOUR_MS, [BITCOIN, CHILIZ]
    champions = _train_all(settings, before_ms - HOUR_MS, "champions", pairs, batch_size=1)
    with Registry(settings) as registry:
        for result in champions.values():
            registry.set_alias(result.name, CHAMPION, result.version)
    read, prepared = Mock(wraps=CandleStore.read), Mock(wraps=pipeline.align_candles)
    monkeypatch.setattr(CandleStore, "read", lambda *args: read(*args))
    monkeypatch.setattr(pipeline, "align_candles", prepared)

    results = _train_all(settings, before_ms, "once", pairs, batch_size=1)

    for pair in pairs:
        compared = results[pair].comparison
        assert (compared.champion_version, compared.champion_horizons) == (champions[pair].version, HORIZONS)
        assert compared.mean.horizons == len(HORIZON_GRID)
        assert "in the mean over 9 horizons" in decide(compared).reason
    assert [call.args[2] for call in read.call_args_list] == pairs
    assert prepared.call_count == len(pairs)


def test_a_champion_of_one_horizon_is_compared_at_the_next_close(settings: Settings, as_of_ms: int) -> None:
    """As after an upgrade: the champion is a graph of the first contract, far too sure of the next close."""
    too_sure = tuple(value / 100 for value in LOG_RETURNS)
    mlflow.set_tracking_uri(settings.mlflow_url)
    champion = register_graph(NAME, tiny_model(BITCOIN, horizons=0, log_returns=too_sure), version_tags())
    with Registry(settings) as registry:
        registry.set_alias(NAME, CHAMPION, champion)

    compared = _train(settings, as_of_ms - 7 * HOUR_MS, "upgrade").comparison

    assert (compared.champion_version, compared.champion_horizons, compared.mean) == (champion, 1, None)
    assert compared.t > 2
    decision = decide(compared)
    assert decision.promoted
    assert decision.reason.startswith(f"it forecasts {HORIZONS} horizons, the champion 1; +")


def test_a_worker_that_was_cut_off_does_not_overwrite_what_another_one_did(
    settings: Settings, as_of_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, statuses = PairTrainer._train, []

    def cut_off(self: PairTrainer, pair: Pair) -> None:
        monkeypatch.setattr(PairTrainer, "_train", train)
        statuses.append(_train(settings, as_of_ms - 23 * HOUR_MS, "cut-off").status)  # Ray started another worker
        raise StoreError("S3 cannot be reached")

    monkeypatch.setattr(PairTrainer, "_train", cut_off)
    assert _train(settings, as_of_ms - 23 * HOUR_MS, "cut-off").status == "trained"
    assert statuses == ["trained"]


def test_a_pair_that_two_workers_share_is_trained_although_one_is_killed(
    settings: Settings, as_of_ms: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one gets an error from Gloo, which is no error of the pair."""
    for name in ("market", "history_candles", "exchange_url", "mlflow_url", "s3_endpoint_url"):
        monkeypatch.setenv(f"MUR_{name.upper()}", str(getattr(settings, name)))
    for name, key in zip(("S3_ACCESS_KEY", "S3_SECRET_KEY"), S3_KEYS, strict=True):
        monkeypatch.setenv(f"MUR_{name}", key)
    monkeypatch.setenv("MUR_ARCHITECTURE", "linear")  # from scratch, which leaves the time for a kill
    job, log = "shared", tmp_path / "job.log"
    command = [sys.executable, "-m", "ray_jobs.train_pairs", "--pairs", BITCOIN, "--submission-id", job]
    command += ["--as-of-ms", str(as_of_ms - 30 * HOUR_MS)]
    store = ObjectStore.from_settings(settings)

    def trains() -> bool:
        return f"{BITCOIN}: train\n" in log.read_text()

    with fixed_cluster(cpus=2) as address, running(command, trains, log, driver_environment(address), timeout_s=120):
        other = _silent_worker(settings, log.read_text())
        os.kill(other, signal.SIGSTOP)  # so that the printing one waits for it
        time.sleep(1)
        assert job_results(store, job)[0].status == "begun", "it was trained before the kill"
        os.kill(other, signal.SIGKILL)
        wait_until(lambda: job_results(store, job)[0].status != "begun", 120, "the pair is not trained")

    (result,) = job_results(store, job)
    assert result.status == "trained", result.reason


def _silent_worker(settings: Settings, log: str) -> int:
    """Return the process of rank 1: rank 0 alone prints the steps of a pair."""
    (rank_0,) = re.findall(rf"pid=(\d+)\)\S* {BITCOIN}: train\n", log)
    workers = {
        process.pid
        for process in psutil.process_iter()
        if process.name().startswith("ray::RayTrainWo")
        and process.environ().get("MUR_S3_ENDPOINT_URL") == settings.s3_endpoint_url
    }
    (silent,) = workers - {int(rank_0)}
    return silent
