"""Trains pairs, from candles in S3 to registered models, and writes one result for each pair."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from make_us_rich.core.errors import BadModel, MakeUsRichError, NotEnoughHistory, StoreError
from make_us_rich.core.pair import BITCOIN, Pair, Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import BackfilledForecast, Comparison, JobResult, Quantiles, TrainedResult
from make_us_rich.forecasting.architectures import from_npz
from make_us_rich.forecasting.evaluation import compare
from make_us_rich.forecasting.onnx_model import OnnxModel
from make_us_rich.forecasting.recipe import FittedModel, evaluate_model, fit
from make_us_rich.forecasting.training import ProcessGroup, TrainingTask
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.market.window import common_window
from make_us_rich.pipeline.ray_jobs import TAG_JOB, find_result, postponed, trained_before, write_result
from make_us_rich.registry import shipped
from make_us_rich.registry.client import CHAMPION, Registry
from make_us_rich.registry.publish import publish
from ray_jobs.adapt_foundation import adapt
from ray_jobs.job import TrainingJob, comparison

# A pair whose worker died this often, for example for lack of memory, is given up to save the rest of the job.
_MAX_LOST_WORKERS = 2


@dataclass(frozen=True, eq=False)
class _PairCandles:
    own: Candles
    bitcoin: Candles


class PairTrainer:
    """Trains pairs one after another, as one rank of `group`."""

    def __init__(
        self, settings: Settings, registry: Registry, job: TrainingJob, group: ProcessGroup, device: str = "cpu"
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._job = job
        self._task = TrainingTask(job.as_of_ms, job.config(settings), device, group=group)
        self._group = group
        self._objects = ObjectStore.from_settings(settings)
        self._objects.list_keys(f"jobs/{job.submission_id}/")  # fails at once without S3; MLflow's files take longer
        self._candle_store = CandleStore(self._objects)
        self._foundation = self._load_foundation()
        self._bitcoin: Candles | None = None
        self._lost_workers: dict[Pair, int] = {}  # of each pair that was begun

    def run(self, pairs: Sequence[Pair]) -> None:
        """Train the pairs and write their results; an error of one pair is recorded in its result.

        Skips pairs that this job has ended, and pairs that an earlier run trained as of the same time, whose result it
        copies. Past the job's time, pairs are postponed, except the first one, so that each job makes progress.
        """
        for pair in pairs:
            # rank 0 decides for all: ranks that decide differently would wait for each other for ever
            reason = self._group.first_error(self._reason_to_skip(pair) if self._group.rank == 0 else "")
            if reason:
                self._print(f"{pair}: {reason}")
            else:
                self._train_and_record(pair)

    def _reason_to_skip(self, pair: Pair) -> str:
        """Return why the pair is not trained, and write its result unless it has one; otherwise write that it began."""
        before = find_result(self._objects, self._job.submission_id, pair)
        if before is not None and before.status != "begun":
            return "ended before a worker was lost"
        job = self._job
        done = trained_before(self._registry, self._objects, self._settings, pair, job.interval, job.as_of_ms)
        if done is not None:
            self._write(done.model_copy(update={"seconds": 0.0}))
            return "trained before as of the same time"
        if job.is_over and self._lost_workers:
            self._write(postponed(pair))
            return "postponed"
        lost = self._lost_workers[pair] = before.lost + 1 if before is not None else 0
        if lost == _MAX_LOST_WORKERS:
            return "given up: its worker died each time"
        self._write(JobResult(pair=pair, status="begun", lost=lost, reason="its worker died while it was trained"))
        return ""

    def _train_and_record(self, pair: Pair) -> None:
        """Train and register the model of a pair, and write the result, also that of a failure."""
        began_s = time.monotonic()
        try:
            candles = self._read_candles(pair)
            fitted = self._fit(pair, candles)
            if self._group.rank > 0:
                return
            result: JobResult = self._register(pair, candles, fitted)
        except Exception as error:  # one pair's error must not end the job
            if self._group.world_size > 1 and isinstance(error, RuntimeError):
                raise  # as Gloo's, when another rank is lost: Ray Train restarts all
            reason = str(error) if isinstance(error, MakeUsRichError) else repr(error)
            result = JobResult(pair=pair, status="failed", reason=reason, kind=type(error).__name__)
            print(f"{pair}: failed: {reason}", flush=True)
            if self._was_taken_over(pair):
                return
            if isinstance(error, NotEnoughHistory) and self._group.rank == 0:
                self._adapt_foundation(pair)
        self._write(result.model_copy(update={"seconds": round(time.monotonic() - began_s, 2)}))

    def _read_candles(self, pair: Pair) -> _PairCandles:
        """Read the candles of a pair, and Bitcoin's once for all pairs. Collective.

        Raises StoreError on all ranks when one of them could not read: otherwise the others would wait for it for ever.
        """
        own, error_text = None, ""
        try:
            if self._bitcoin is None:
                self._bitcoin = self._job.read_candles(self._candle_store, self._settings, BITCOIN)
            own = self._bitcoin if pair == BITCOIN else self._job.read_candles(self._candle_store, self._settings, pair)
        except StoreError as error:
            error_text = str(error)
        error_text = self._group.first_error(error_text)
        if error_text or own is None or self._bitcoin is None:
            raise StoreError(error_text)
        return _PairCandles(own, self._bitcoin)

    def _fit(self, pair: Pair, candles: _PairCandles) -> FittedModel:
        on_step = partial(print, f"{pair}:", flush=True)
        task = replace(self._task, on_step=on_step) if self._group.rank == 0 else self._task
        return fit(candles.own, candles.bitcoin, task, pair=pair, foundation=self._foundation)

    def _register(self, pair: Pair, candles: _PairCandles, fitted: FittedModel) -> TrainedResult:
        """Compare the model with the champion, let it forecast and register it. Returns its result."""
        name = Series(pair, self._job.interval).name
        begun = JobResult(
            pair=pair,
            status="begun",
            lost=self._lost_workers[pair],
            reason="its worker died at the upload",
            name=name,
            interval=self._job.interval,
            as_of_ms=self._job.as_of_ms,
            metrics=fitted.metrics,
            comparison=self._compare(name, fitted),
            forecast=self._forecast(name, candles, fitted),
        )
        self._write(begun)
        self._print(f"{pair}: upload")
        published = publish(
            self._registry,
            fitted,
            name=name,
            as_of_ms=self._job.as_of_ms,
            market=self._settings.market,
            tags={TAG_JOB: self._job.submission_id},
        )
        return TrainedResult.model_validate(
            begun.model_dump(exclude={"lost", "reason"}, exclude_unset=True)
            | {"status": "trained", "version": published.version, "run_id": published.run_id}
        )

    def _compare(self, name: str, fitted: FittedModel) -> Comparison:
        """Compare the model with the present champion on the same held-out candles; neither was trained on them."""
        champion = self._registry.find(name, CHAMPION)
        if champion is None or fitted.prepared is None:
            return comparison(fitted, champion)
        theirs = evaluate_model(self._registry.download(champion), fitted.prepared, interval=self._job.interval)
        return comparison(fitted, champion, compare(fitted.holdout, theirs, fitted.naive))

    def _forecast(self, name: str, candles: _PairCandles, fitted: FittedModel) -> BackfilledForecast | None:
        """Forecast the closes after the job's as_of as the model would serve them; None if candles just before lack."""
        window = common_window(candles.own, candles.bitcoin, self._job.interval)
        if window is None or window.as_of_ms != self._job.as_of_ms:
            return None
        prices = OnnxModel.load(fitted.onnx, name).quantiles(window.candles, window.reference)
        following, *later = map(Quantiles.of, prices.tolist())
        return BackfilledForecast(**dict(following), last_close=float(window.candles.close[-1]), later=tuple(later))

    def _was_taken_over(self, pair: Pair) -> bool:
        """Return whether another worker began or ended the pair since, because this one was cut off from Ray."""
        now = find_result(self._objects, self._job.submission_id, pair)
        return now is not None and (now.status != "begun" or now.lost != self._lost_workers.get(pair, now.lost))

    def _adapt_foundation(self, pair: Pair) -> None:
        """Adapt the foundation to a pair that is too young to be trained; an error changes nothing for the pair."""
        try:
            adapt(self._settings, replace(self._job, pairs=(pair,)))
        except MakeUsRichError as error:
            print(f"{pair}: the foundation is not adapted: {error}", flush=True)

    def _load_foundation(self) -> bytes | None:
        """Load the weights of the foundation champion, or else of the shipped one.

        Skips one that saw later candles or has another architecture; None if both do.
        """
        model = self._registry.find(foundation_name(self._job.interval), CHAMPION)
        if model is not None and model.as_of_ms <= self._job.as_of_ms:
            weights = self._registry.weights(model)
            if self._fits(weights, f"version {model.version} of {model.name}"):
                return weights
        spare = shipped.find(self._settings.market, self._job.interval)
        if spare is None or spare.card.as_of_ms > self._job.as_of_ms:
            return None
        return spare.weights if self._fits(spare.weights, "the shipped foundation") else None

    def _fits(self, weights: bytes, name: str) -> bool:
        try:
            from_npz(weights, self._task.config, self._job.as_of_ms)
        except BadModel as error:  # after a change of MUR_ARCHITECTURE, or of the code
            self._print(f"{name} cannot be fine-tuned until train_foundation has run: {error}")
            return False
        return True

    def _write(self, result: JobResult) -> None:
        if self._group.rank == 0:
            write_result(self._objects, self._job.submission_id, result)

    def _print(self, line: str) -> None:
        if self._group.rank == 0:
            print(line, flush=True)
