"""The result of training a pair, and what a second run does with it: on a real S3, MLflow and exchange."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from unittest.mock import Mock

import mlflow
import pytest
import torch
from pydantic import SecretStr

from make_us_rich.core.errors import StoreError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import HORIZON_GRID, HORIZONS, JobResult
from make_us_rich.forecasting import dataset
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.recipe import fit_foundation
from make_us_rich.forecasting.training import ProcessGroup, TrainingTask
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.pipeline.ray_jobs import job_results, write_result
from make_us_rich.registry.client import CHAMPION, Registry
from make_us_rich.registry.promotion import decide
from make_us_rich.registry.publish import publish
from ray_jobs import pair_trainer, train_pairs
from ray_jobs.job import TrainingJob
from ray_jobs.pair_trainer import PairTrainer
from tests.support.registry import register_graph, version_tags
from tests.support.servers import S3_KEYS, exchange_server, mlflow_server, s3_server
from tests.support.stored_candles import store_candles
from tests.support.tiny_model import LOG_RETURNS, tiny_model

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the exporter's and MLflow's own
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

CHILIZ, ETHER = Pair("chz", "usdt"), Pair("eth", "usdt")
NAME = f"{BITCOIN}_1h"
HISTORY = 3000


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute as a training worker does: more threads than cores slow each other down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    ObjectStore.from_settings(settings).ensure_bucket()
    store_candles(settings, (BITCOIN, CHILIZ), newest_ms, HISTORY)
    return newest_ms


@dataclass(frozen=True)
class Compared:
    """A job that trained two pairs with champions after it had lost a worker."""

    results: dict[Pair, JobResult]
    bitcoin_champion: int
    one_horizon_champion: int
    output: str
    read: tuple[Pair, ...]
    prepared: int


def _train(
    settings: Settings, as_of_ms: int, job: str, pair: Pair = BITCOIN, interval: Interval = Interval.H1
) -> JobResult:
    (result,) = _train_all(settings, as_of_ms, job, [pair], interval=interval).values()
    return result


def _train_all(
    settings: Settings,
    as_of_ms: int,
    job: str,
    pairs: list[Pair],
    *,
    interval: Interval = Interval.H1,
    stop_at_ms: int | None = None,
) -> dict[Pair, JobResult]:
    with Registry(settings) as registry:
        training_job = TrainingJob(tuple(pairs), interval, as_of_ms, job, stop_at_ms)
        PairTrainer(settings, registry, training_job, ProcessGroup()).run(pairs)
    results = job_results(ObjectStore.from_settings(settings), job)
    return {result.pair: result for result in results}


@pytest.fixture(scope="module")
def first(settings: Settings, as_of_ms: int) -> JobResult:
    """Train Bitcoin as of the newest close, before there is a champion."""
    return _train(settings, as_of_ms, "first")


@pytest.fixture(scope="module")
def compared(settings: Settings, as_of_ms: int, first: JobResult) -> Compared:
    """Let Bitcoin's champion be the model of `first`, and Chiliz's a graph of the first contract, far too sure."""
    pairs, before_ms = [BITCOIN, CHILIZ], as_of_ms - 5 * HOUR_MS
    too_sure = tuple(value / 100 for value in LOG_RETURNS)
    mlflow.set_tracking_uri(settings.mlflow_url)
    champion = register_graph(f"{CHILIZ}_1h", tiny_model(CHILIZ, horizons=0, log_returns=too_sure), version_tags())
    with Registry(settings) as registry:
        registry.set_alias(NAME, CHAMPION, first.version)
        registry.set_alias(f"{CHILIZ}_1h", CHAMPION, champion)
    lost = JobResult(pair=BITCOIN, status="begun", lost=0, reason="its worker died while it was trained")
    write_result(ObjectStore.from_settings(settings), "lost", lost)
    read, prepared, output = Mock(wraps=CandleStore.read), Mock(wraps=dataset.align_candles), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setattr(CandleStore, "read", lambda *args: read(*args))
        patch.setattr(dataset, "align_candles", prepared)
        results = _train_all(settings, before_ms, "lost", pairs)
    pairs_read = tuple(call.args[2] for call in read.call_args_list)
    return Compared(results, first.version, champion, output.getvalue(), pairs_read, prepared.call_count)


@pytest.fixture(scope="module")
def gru_foundation_ms(settings: Settings, as_of_ms: int) -> int:
    """Let the champion of the foundation be a gru, barely trained; returns the time as of which it is."""
    before_ms = as_of_ms - 4 * HOUR_MS
    candles = CandleStore.from_settings(settings).read(
        settings.market, BITCOIN, Interval.H1, before_ms - HISTORY * HOUR_MS, before_ms
    )
    config = TrainingConfig(architecture="gru", foundation_epochs=1, foundation_draws=1)
    shared = fit_foundation({BITCOIN: candles}, candles, TrainingTask(before_ms, config))
    name = foundation_name(Interval.H1)
    with Registry(settings) as registry:
        published = publish(registry, shared, name=name, as_of_ms=before_ms, market=settings.market, tags={})
        registry.set_alias(name, CHAMPION, published.version)
    return before_ms


def test_a_pair_is_trained_once_as_of_a_time(settings: Settings, as_of_ms: int, first: JobResult) -> None:
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
    days_ms = _store_candles(settings, as_of_ms, Interval.D1)
    results = _train_all(settings, days_ms, "late", [CHILIZ, BITCOIN], interval=Interval.D1, stop_at_ms=1)

    _check_trained(settings, results[CHILIZ], Interval.D1, days_ms)
    assert results[BITCOIN].status == "postponed"
    assert "MUR_TRAINING_MINUTES" in results[BITCOIN].reason
    assert _train(settings, days_ms, "after it", interval=Interval.D1).status == "trained"


def test_a_job_that_starts_past_its_time_starts_no_worker(
    settings: Settings, as_of_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_late = ["--pairs", f"{BITCOIN},{CHILIZ}", "--as-of-ms", str(as_of_ms), "--stop-at-ms", "1"]
    monkeypatch.setattr(sys, "argv", ["train_pairs", *too_late, "--submission-id", "too late"])
    monkeypatch.setattr(train_pairs, "get_settings", lambda: settings)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # nobody is there

    train_pairs.main()

    results = job_results(ObjectStore.from_settings(settings), "too late")
    assert [result.status for result in results] == ["postponed"] * 2


def test_a_pair_is_trained_on_candles_of_another_interval(settings: Settings, as_of_ms: int) -> None:
    """Of four hours; those of a day: see the job that is past its time."""
    interval_ms = _store_candles(settings, as_of_ms, Interval.H4)

    _check_trained(settings, _train(settings, interval_ms, "hours", CHILIZ, Interval.H4), Interval.H4, interval_ms)


def _store_candles(settings: Settings, as_of_ms: int, interval: Interval) -> int:
    """Store the candles of both pairs; returns the newest close of the interval."""
    as_of_ms = interval.last_close_ms(as_of_ms)
    store_candles(settings, (BITCOIN, CHILIZ), as_of_ms, settings.training_candles(interval), interval)
    return as_of_ms


def _check_trained(settings: Settings, result: JobResult, interval: Interval, as_of_ms: int) -> None:
    assert (result.status, result.name, result.interval) == ("trained", f"chz_usdt_{interval}", interval), result
    with Registry(settings) as registry:
        assert registry.get(result.name, result.version).tags["as_of_ms"] == str(as_of_ms)
    assert result.forecast is not None
    assert len(result.forecast.horizons) == HORIZONS


def test_a_worker_death_after_registration_makes_no_second_version(
    settings: Settings, as_of_ms: int, first: JobResult
) -> None:
    store = ObjectStore.from_settings(settings)
    begun = first.model_copy(update={"status": "begun", "version": None, "run_id": None})
    write_result(store, "first", begun)

    again = _train(settings, as_of_ms, "first")

    assert (again.status, again.version, again.run_id) == ("trained", 1, first.run_id)


def test_a_pair_that_kills_its_worker_is_given_up(settings: Settings, as_of_ms: int) -> None:
    store = ObjectStore.from_settings(settings)
    earlier_ms = as_of_ms - 3_600_000
    deadly = JobResult(pair=BITCOIN, status="begun", lost=1, reason="its worker died while it was trained")
    write_result(store, "deadly", deadly)

    assert _train(settings, earlier_ms, "deadly") == deadly


def test_a_pair_that_kills_its_worker_at_the_upload_too_is_given_up(
    settings: Settings, as_of_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    died_once = JobResult(pair=BITCOIN, status="begun", lost=0, reason="its worker died while it was trained")
    write_result(ObjectStore.from_settings(settings), "deadly upload", died_once)
    publishing = Mock(side_effect=SystemExit)  # ends the worker, as a kill does
    monkeypatch.setattr(pair_trainer, "publish", publishing)
    with pytest.raises(SystemExit):
        _train(settings, as_of_ms - 6 * HOUR_MS, "deadly upload")

    given_up = _train(settings, as_of_ms - 6 * HOUR_MS, "deadly upload")

    assert (given_up.status, given_up.lost, given_up.reason) == ("begun", 1, "its worker died at the upload")
    assert publishing.call_count == 1


def test_a_failed_pair_has_the_reason(settings: Settings, as_of_ms: int) -> None:
    result = _train(settings, as_of_ms, "failing", ETHER)

    assert (result.pair, result.status, result.kind) == ("eth_usdt", "failed", "NotEnoughHistory")


@pytest.mark.parametrize(("architecture", "start"), [("linear", "from scratch"), ("gru", "weights")])
def test_a_foundation_of_another_architecture_is_not_fine_tuned(
    settings: Settings, gru_foundation_ms: int, architecture: str, start: str
) -> None:
    chosen = settings.model_copy(update={"architecture": architecture})

    result = _train(chosen, gru_foundation_ms + HOUR_MS * (start == "weights"), architecture)

    assert result.status == "trained", result.reason
    assert _start_of(settings, result) == start


def test_the_shipped_foundation_stands_in_for_a_champion_of_another_architecture(
    settings: Settings, gru_foundation_ms: int
) -> None:
    result = _train(settings, gru_foundation_ms + 2 * HOUR_MS, "shipped")

    assert result.seconds > 0
    assert _start_of(settings, result) == "weights"


def _start_of(settings: Settings, result: JobResult) -> str:
    with Registry(settings) as registry:
        return registry.run(result.run_id).params["start"]


def test_after_a_lost_worker_its_pair_is_trained_again(compared: Compared) -> None:
    assert f"{BITCOIN}: train\n" in compared.output
    assert [result.status for result in compared.results.values()] == ["trained", "trained"]


def test_a_job_prepares_each_pair_once_and_reads_bitcoin_once(compared: Compared) -> None:
    against = compared.results[BITCOIN].comparison
    assert (against.champion_version, against.champion_horizons) == (compared.bitcoin_champion, HORIZONS)
    assert against.mean.horizons == len(HORIZON_GRID)
    assert "in the mean over 9 horizons" in decide(against).reason
    assert compared.read == (BITCOIN, CHILIZ)
    assert compared.prepared == 2


def test_a_champion_of_one_horizon_is_compared_at_the_next_close(compared: Compared) -> None:
    """As after an upgrade: the champion is a graph of the first contract."""
    against = compared.results[CHILIZ].comparison
    assert (against.champion_version, against.champion_horizons, against.mean) == (
        compared.one_horizon_champion,
        1,
        None,
    )
    assert against.t > 2
    decision = decide(against)
    assert decision.promoted
    assert decision.reason.startswith(f"it forecasts {HORIZONS} horizons, the champion 1; +")


def test_a_worker_that_was_cut_off_does_not_overwrite_what_another_one_did(
    settings: Settings, as_of_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, statuses = PairTrainer._fit, []

    def cut_off(self: PairTrainer, pair: Pair, candles: object) -> None:
        monkeypatch.setattr(PairTrainer, "_fit", fit)
        statuses.append(_train(settings, as_of_ms - 23 * HOUR_MS, "cut-off").status)  # Ray started another worker
        raise StoreError("S3 cannot be reached")

    monkeypatch.setattr(PairTrainer, "_fit", cut_off)
    assert _train(settings, as_of_ms - 23 * HOUR_MS, "cut-off").status == "trained"
    assert statuses == ["trained"]
