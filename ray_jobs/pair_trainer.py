"""Trains pairs, from candles in S3 to registered models, and writes one result for each pair."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from make_us_rich.core.errors import BadModel, MakeUsRichError, NotEnoughHistory, StoreError
from make_us_rich.core.pair import BITCOIN, Pair, Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import BackfilledForecast, Comparison, JobResult, Quantiles, TrainedResult
from make_us_rich.forecasting.architectures import TrainingConfig, from_npz
from make_us_rich.forecasting.batched import train_batched
from make_us_rich.forecasting.evaluation import compare
from make_us_rich.forecasting.onnx_model import OnnxModel
from make_us_rich.forecasting.recipe import (
    FittedModel,
    PreparedPair,
    evaluate_model,
    export_and_evaluate,
    prepare,
    train_pair,
)
from make_us_rich.forecasting.training import ProcessGroup, TrainedNetwork
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.market.window import common_window
from make_us_rich.pipeline.ray_jobs import TAG_JOB, find_result, postponed, trained_before, write_result
from make_us_rich.registry import shipped
from make_us_rich.registry.client import CHAMPION, Registry, connect_mlflow
from make_us_rich.registry.publish import load_weights, publish
from ray_jobs.adapt_foundation import adapt
from ray_jobs.job import TrainingJob, comparison

# A pair whose worker died this often, for example for lack of memory, is given up to save the rest of the batch.
_MAX_LOST_WORKERS = 2


@dataclass(frozen=True, eq=False)
class _PairCandles:
    own: Candles
    bitcoin: Candles


@dataclass(frozen=True, eq=False)
class _TrainedPair:
    candles: _PairCandles
    prepared: PreparedPair
    trained: TrainedNetwork


class PairTrainer:
    """Trains pairs one after another, or on a GPU in batches, as one rank of `group`."""

    def __init__(
        self, settings: Settings, registry: Registry, job: TrainingJob, group: ProcessGroup, device: str = "cpu"
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._job = job
        self._interval, self._as_of_ms = job.interval, job.as_of_ms
        self._submission_id = job.submission_id
        self._group = group
        self._device = device
        self._config = replace(TrainingConfig.of(job.interval), architecture=settings.architecture)
        self._objects = ObjectStore.from_settings(settings)
        self._candle_store = CandleStore(self._objects)
        self._objects.list_keys(f"jobs/{self._submission_id}/")  # fails at once without S3; MLflow retries for minutes
        connect_mlflow(settings)
        self._foundation = self._load_foundation()
        self._bitcoin: Candles | None = None
        self._lost_workers: dict[Pair, int] = {}  # of each pair that was begun

    def run(self, pairs: Sequence[Pair], batch_size: int = 1) -> None:
        """Train the pairs and write their results; an error of one pair is recorded in its result.

        Skips pairs that this job has ended, and pairs that an earlier run trained as of the same time, whose result it
        copies. `batch_size` pairs are fine-tuned as one batch. After a restart, pairs are trained one by one, so that
        a pair that kills its worker takes no other with it. Past the job's time, pairs are postponed, except the
        first one, so that each job makes progress.
        """
        for first in range(0, len(pairs), batch_size):
            batch = pairs[first : first + batch_size]
            if len(batch) > 1 and self._foundation and not any(map(self._find_result, batch)):
                self._run_batched(batch, self._foundation)
            else:
                for pair in batch:
                    if self._start(pair):
                        self._complete(pair)

    def _run_batched(self, pairs: Sequence[Pair], foundation: bytes) -> None:
        started = [pair for pair in pairs if self._start(pair)]
        began_s = time.monotonic()
        trained = self._train_batched(started, foundation)
        seconds_each = (time.monotonic() - began_s) / max(len(trained), 1)
        for pair in started:
            self._complete(pair, trained.pop(pair, None), seconds_each)

    def _start(self, pair: Pair) -> bool:
        """Return whether the pair must be trained, and write a `begun` result if so. Collective."""
        # rank 0 decides for all: ranks that decide differently would wait for each other for ever
        reason = self._group.first_error(self._reason_to_skip(pair) if self._group.rank == 0 else "")
        if reason:
            self._print(f"{pair}: {reason}")
        return not reason

    def _reason_to_skip(self, pair: Pair) -> str:
        before = self._find_result(pair)
        if before is not None and before.status != "begun":
            return "ended before a worker was lost"
        done = trained_before(self._registry, self._objects, self._settings, pair, self._interval, self._as_of_ms)
        if done is not None:
            self._write(done.model_copy(update={"seconds": 0.0}))
            return "trained before as of the same time"
        if self._job.is_over and self._lost_workers:
            self._write(postponed(pair))
            return "postponed"
        lost = self._lost_workers[pair] = before.lost + 1 if before is not None else 0
        if lost == _MAX_LOST_WORKERS:
            return "given up: its worker died each time"
        self._write(JobResult(pair=pair, status="begun", lost=lost, reason="its worker died while it was trained"))
        return ""

    def _complete(self, pair: Pair, trained: _TrainedPair | None = None, seconds: float = 0) -> None:
        """Train the pair unless it was trained in a batch (in `seconds`), publish it and write its result."""
        began_s = time.monotonic() - (seconds if trained else 0)
        try:
            result: JobResult | None = self._publish(pair, trained or self._train(pair))
        except Exception as error:  # one pair's error must not end the batch
            if self._group.world_size > 1 and isinstance(error, RuntimeError):
                raise  # as Gloo's, when another rank is lost: Ray Train restarts all
            reason = str(error) if isinstance(error, MakeUsRichError) else repr(error)
            result = JobResult(pair=pair, status="failed", reason=reason, kind=type(error).__name__)
            print(f"{pair}: failed: {reason}", flush=True)
            if self._was_taken_over(pair):
                return
            if isinstance(error, NotEnoughHistory) and self._group.rank == 0:
                self._adapt_foundation(pair)
        if result is not None:
            self._write(result.model_copy(update={"seconds": round(time.monotonic() - began_s, 2)}))

    def _adapt_foundation(self, pair: Pair) -> None:
        """Adapt the foundation to a pair that is too young to be trained; an error changes nothing for the pair."""
        try:
            adapt(self._settings, replace(self._job, pairs=(pair,)))
        except MakeUsRichError as error:
            print(f"{pair}: the foundation is not adapted: {error}", flush=True)

    def _was_taken_over(self, pair: Pair) -> bool:
        """Return whether another worker began or ended the pair since, because this one was cut off from Ray."""
        now = self._find_result(pair)
        return now is not None and (now.status != "begun" or now.lost != self._lost_workers.get(pair, now.lost))

    def _find_result(self, pair: Pair) -> JobResult | None:
        return find_result(self._objects, self._submission_id, pair)

    def _write(self, result: JobResult) -> None:
        if self._group.rank == 0:
            write_result(self._objects, self._submission_id, result)

    def _train(self, pair: Pair) -> _TrainedPair:
        candles = self._read_candles(pair)
        prepared = self._prepare(pair, candles)
        trained = train_pair(
            prepared,
            as_of_ms=self._as_of_ms,
            config=self._config,
            foundation=self._foundation,
            device=self._device,
            on_step=self._step_printer(pair),
            group=self._group,
        )
        return _TrainedPair(candles, prepared, trained)

    def _train_batched(self, pairs: Sequence[Pair], foundation: bytes) -> dict[Pair, _TrainedPair]:
        """Fine-tune the pairs as one batch. Leaves out a pair that cannot be prepared: it fails on its own later."""
        candles, prepared = {}, {}
        for pair in pairs:
            try:
                candles[pair] = self._read_candles(pair)
                prepared[pair] = self._prepare(pair, candles[pair])
            except Exception as error:  # raised again, and recorded, when the pair is trained on its own
                self._print(f"{pair}: not in the batch: {error}")
        if len(prepared) < 2:
            return {}
        self._print(f"{', '.join(prepared)}: trained as one batch")
        try:
            trained = train_batched(
                prepared, as_of_ms=self._as_of_ms, config=self._config, foundation=foundation, device=self._device
            )
        except torch.OutOfMemoryError as error:
            self._print(f"the GPU has no memory for a batch of {len(prepared)} pairs: {error}")
            return {}
        return {pair: _TrainedPair(candles[pair], prepared[pair], item) for pair, item in trained.items()}

    def _prepare(self, pair: Pair, candles: _PairCandles) -> PreparedPair:
        return prepare(
            candles.own,
            candles.bitcoin,
            interval=self._interval,
            as_of_ms=self._as_of_ms,
            config=self._config,
            on_step=self._step_printer(pair),
        )

    def _publish(self, pair: Pair, pair_model: _TrainedPair) -> TrainedResult | None:
        """Export, check and register the model; return its result, None on ranks other than 0."""
        name = Series(pair, self._interval).name
        fitted = export_and_evaluate(
            pair_model.prepared,
            pair_model.trained,
            pair=pair,
            interval=self._interval,
            as_of_ms=self._as_of_ms,
            config=self._config,
            on_step=self._step_printer(pair),
        )
        if self._group.rank > 0:
            return None
        begun = JobResult(
            pair=pair,
            status="begun",
            lost=self._lost_workers[pair],
            reason="its worker died at the upload",
            name=name,
            interval=self._interval,
            as_of_ms=self._as_of_ms,
            metrics=fitted.metrics,
            comparison=self._compare(name, pair_model.prepared, fitted),
            forecast=self._forecast(name, fitted, pair_model.candles),
        )
        self._write(begun)
        self._print(f"{pair}: upload")
        run_id, version = publish(
            fitted,
            name=name,
            as_of_ms=self._as_of_ms,
            market=self._settings.market,
            tags={TAG_JOB: self._submission_id},
        )
        return TrainedResult.model_validate(
            begun.model_dump(exclude={"lost", "reason"}, exclude_unset=True)
            | {"status": "trained", "version": version, "run_id": run_id}
        )

    def _forecast(self, name: str, fitted: FittedModel, candles: _PairCandles) -> BackfilledForecast | None:
        """Forecast the closes after `as_of_ms` as the model would serve them; None if candles before it are missing."""
        window = common_window(candles.own, candles.bitcoin, self._interval)
        if window is None or window.as_of_ms != self._as_of_ms:
            return None
        prices = OnnxModel.load(fitted.onnx, name).quantiles(window.candles, window.reference)
        following, *later = map(Quantiles.of, prices.tolist())
        return BackfilledForecast(**dict(following), last_close=float(window.candles.close[-1]), later=tuple(later))

    def _compare(self, name: str, prepared: PreparedPair, fitted: FittedModel) -> Comparison:
        """Compare the model with the present champion on the same held-out candles; neither was trained on them."""
        champion = self._registry.find(name, CHAMPION)
        if champion is None:
            return comparison(fitted, None)
        champion_holdout = evaluate_model(self._registry.download(champion), prepared, interval=self._interval)
        return comparison(fitted, champion, compare(fitted.holdout, champion_holdout, fitted.naive))

    def _read_candles(self, pair: Pair) -> _PairCandles:
        """Read the candles of a pair, and Bitcoin's once for all pairs. Collective.

        Raises StoreError on all ranks when one of them could not read: otherwise the others would wait for it for ever.
        """
        own, error_text = None, ""
        try:
            if self._bitcoin is None:
                self._bitcoin = self._read(BITCOIN)
            own = self._bitcoin if pair == BITCOIN else self._read(pair)
        except StoreError as error:
            error_text = str(error)
        error_text = self._group.first_error(error_text)
        if error_text or own is None or self._bitcoin is None:
            raise StoreError(error_text)
        return _PairCandles(own, self._bitcoin)

    def _read(self, pair: Pair) -> Candles:
        start_ms = self._as_of_ms - self._settings.training_candles(self._interval) * self._interval.ms
        return self._candle_store.read(self._settings.market, pair, self._interval, start_ms, self._as_of_ms)

    def _load_foundation(self) -> bytes | None:
        """Load the weights of the foundation champion, or else of the shipped one.

        Skips one that saw later candles or has another architecture; None if both do.
        """
        model = self._registry.find(foundation_name(self._interval), CHAMPION)
        if model is not None and model.as_of_ms <= self._as_of_ms:
            weights = load_weights(model.run_id)
            if self._fits(weights, f"version {model.version} of {model.name}"):
                return weights
        spare = shipped.find(self._settings.market, self._interval)
        if spare is None or spare.card.as_of_ms > self._as_of_ms:
            return None
        return spare.weights if self._fits(spare.weights, "the shipped foundation") else None

    def _fits(self, weights: bytes, name: str) -> bool:
        try:
            from_npz(weights, self._config, self._as_of_ms)
        except BadModel as error:  # after a change of MUR_ARCHITECTURE, or of the code
            self._print(f"{name} cannot be fine-tuned until train_foundation has run: {error}")
            return False
        return True

    def _step_printer(self, pair: Pair) -> Callable[[str], None]:
        return lambda step: self._print(f"{pair}: {step}")

    def _print(self, line: str) -> None:
        if self._group.rank == 0:
            print(line, flush=True)
