"""Pairs from candles to registered versions, told step by step, each ending as one row of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from make_us_rich.core.errors import BadModel, MakeUsRichError, StoreError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.documents import QUANTILE_NAMES
from make_us_rich.forecasting.evaluation import compare
from make_us_rich.forecasting.onnx_model import OnnxModel
from make_us_rich.forecasting.pipeline import (
    FittedModel,
    Prepared,
    Trained,
    TrainingConfig,
    finish,
    prepare,
    score,
    train_prepared,
    train_together,
)
from make_us_rich.forecasting.process_group import ProcessGroup
from make_us_rich.forecasting.weights import from_npz
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import window_of
from make_us_rich.operations import job_results
from make_us_rich.registry.client import CHAMPION, TAG_AS_OF_MS, Registry, foundation_name, model_name
from make_us_rich.registry.mlflow import connect
from make_us_rich.registry.promotion import Comparison
from make_us_rich.registry.publish import load_weights, publish

# A pair that takes its worker with it so often, by its memory perhaps, must not take the batch too.
_MOST_LOST = 2


@dataclass(frozen=True, eq=False)
class _Trained:
    candles: Candles
    reference: Candles
    ready: Prepared
    trained: Trained


class PairTrainer:
    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        interval: Interval,
        as_of_ms: int,
        submission_id: str,
        group: ProcessGroup,
        device: str = "cpu",
    ) -> None:
        self._settings = settings
        self._interval = interval
        self._as_of_ms = as_of_ms
        self._submission_id = submission_id
        self._group = group
        self._device = device
        self._config = TrainingConfig(architecture=settings.architecture)
        self._store = CandleStore.from_settings(settings)
        self._registry = registry
        connect(settings)
        self._foundation = self._find_foundation()
        self._bitcoin: Candles | None = None

    def run(self, pairs: Sequence[str], at_once: int = 1) -> None:
        """Train pairs and write their rows; whatever goes wrong with one stays in its row.

        So many at once are fine-tuned as one stack. After a worker died and all were started again, this leaves out
        the pairs that have ended and takes the others one by one, so that one that kills its worker takes no others
        with it. A pair that an earlier run or try trained as of the same time gets that row.
        """
        for first in range(0, len(pairs), at_once):
            batch = pairs[first : first + at_once]
            if len(batch) > 1 and self._foundation and not any(map(self._row, batch)):
                self._run_together(batch, self._foundation)
            else:
                for pair in batch:
                    if self._begin(pair):
                        self._end(pair)

    def _run_together(self, pairs: Sequence[str], foundation: bytes) -> None:
        begun = [pair for pair in pairs if self._begin(pair)]
        began = time.monotonic()
        together = self._train_together(begun, foundation)
        seconds = (time.monotonic() - began) / max(len(together), 1)
        for pair in begun:
            self._end(pair, together.pop(pair, None), seconds)

    def _begin(self, pair: str) -> bool:
        """Whether there is anything to train; if so, with a row that says it began."""
        # one of a group decides for all, who would otherwise wait for each other
        settled = self._group.first_error(self._settled(pair) if self._group.rank == 0 else "")
        if settled:
            self._tell(f"{pair}: {settled}")
        return not settled

    def _end(self, pair: str, trained: _Trained | None = None, seconds: float = 0) -> None:
        """Train it, unless that was done, for so many seconds; and write its row."""
        began = time.monotonic() - (seconds if trained else 0)
        try:
            row = self._publish(pair, trained or self._train(pair))
        except Exception as error:  # a bad pair must not take the batch with it
            reason = str(error) if isinstance(error, MakeUsRichError) else repr(error)
            row = {"status": "failed", "reason": reason, "kind": type(error).__name__}
            print(f"{pair}: failed: {reason}", flush=True)
        self._put(pair, row | {"seconds": round(time.monotonic() - began, 2)})

    def _settled(self, pair: str) -> str:
        """Why there is nothing to train, with its row written; empty when there is, with a row that says it began."""
        before = self._row(pair)
        if before and before["status"] != "begun":
            return "ended before a worker was lost"
        done = job_results.finished(self._registry, self._store, self._settings, pair, self._interval, self._as_of_ms)
        if done:
            self._put(pair, done | {"seconds": 0.0})
            return "trained before as of the same time"
        lost = before["lost"] + 1 if before else 0
        if lost == _MOST_LOST:
            return "given up: its worker died each time"
        self._put(pair, {"status": "begun", "lost": lost, "reason": "its worker died while it was trained"})
        return ""

    def _row(self, pair: str) -> job_results.Row | None:
        return job_results.find(self._store, self._submission_id, pair)

    def _put(self, pair: str, row: job_results.Row) -> None:
        if self._group.rank == 0:
            job_results.put(self._store, self._submission_id, row | {"pair": pair})

    def _train(self, pair: str) -> _Trained:
        candles, reference = self._read(Pair.parse(pair))
        ready = self._prepare(pair, candles, reference)
        trained = train_prepared(
            ready,
            as_of_ms=self._as_of_ms,
            config=self._config,
            foundation=self._foundation,
            device=self._device,
            on_step=self._teller(pair),
            group=self._group,
        )
        return _Trained(candles, reference, ready, trained)

    def _train_together(self, pairs: Sequence[str], foundation: bytes) -> dict[str, _Trained]:
        """As one stack. A pair that cannot be is left out; alone, it tells why."""
        markets, ready = {}, {}
        for pair in pairs:
            try:
                markets[pair] = self._read(Pair.parse(pair))
                ready[pair] = self._prepare(pair, *markets[pair])
            except Exception as error:  # told in full when its turn comes
                self._tell(f"{pair}: not together with others: {error}")
        if len(ready) < 2:
            return {}
        self._tell(f"{', '.join(ready)}: train together")
        try:
            trained = train_together(
                ready, as_of_ms=self._as_of_ms, config=self._config, foundation=foundation, device=self._device
            )
        except torch.OutOfMemoryError as error:
            self._tell(f"the GPU has no room for {len(ready)} pairs at once: {error}")
            return {}
        return {pair: _Trained(*markets[pair], ready[pair], item) for pair, item in trained.items()}

    def _prepare(self, pair: str, candles: Candles, reference: Candles) -> Prepared:
        return prepare(
            candles,
            reference,
            interval=self._interval,
            as_of_ms=self._as_of_ms,
            config=self._config,
            on_step=self._teller(pair),
        )

    def _publish(self, pair: str, found: _Trained) -> job_results.Row:
        """The row of a trained pair; empty for all of a group but the first, who publishes."""
        name = model_name(Pair.parse(pair), self._interval)
        candles, reference = found.candles, found.reference
        fitted = finish(
            found.ready,
            found.trained,
            pair=pair,
            interval=self._interval,
            as_of_ms=self._as_of_ms,
            config=self._config,
            on_step=self._teller(pair),
        )
        if self._group.rank > 0:
            return {}
        results = {
            "name": name,
            "interval": self._interval,
            "as_of_ms": self._as_of_ms,
            "metrics": fitted.metrics,
            "comparison": asdict(self._compare(name, found.ready, fitted)),
            "forecast": self._forecast(name, fitted, candles, reference),
        }
        self._put(pair, {"status": "begun", "lost": 0, "reason": "its worker died at the upload", **results})
        self._tell(f"{pair}: upload")
        run_id, version = publish(
            fitted,
            name=name,
            as_of_ms=self._as_of_ms,
            market=self._settings.market,
            tags={job_results.TAG_JOB: self._submission_id},
        )
        return {"status": "trained", **results, "version": version, "run_id": run_id}

    def _forecast(
        self, name: str, fitted: FittedModel, candles: Candles, reference: Candles
    ) -> dict[str, float] | None:
        """What this model would serve at its own time; None after a gap at the end."""
        window = window_of(candles, reference, self._interval)
        if window is None or window.as_of_ms != self._as_of_ms:
            return None
        prices = OnnxModel.load(fitted.onnx, name).quantiles(window.candles, window.reference)
        quantiles = dict(zip(QUANTILE_NAMES, prices.tolist(), strict=True))
        return {"last_close": float(window.candles.close[-1]), **quantiles}

    def _read(self, pair: Pair) -> tuple[Candles, Candles]:
        """Both markets' candles, or StoreError for all of a group when one of it could not read them.

        Bitcoin's are read once for all pairs. From here on all of a group do the same, so nobody waits for one that
        gave up.
        """
        found, trouble = [], ""
        try:
            if self._bitcoin is None:
                self._bitcoin = self._candles(BITCOIN)
            found = [self._bitcoin if pair == BITCOIN else self._candles(pair), self._bitcoin]
        except StoreError as error:
            trouble = str(error)
        trouble = self._group.first_error(trouble)
        if trouble:
            raise StoreError(trouble)
        candles, reference = found
        return candles, reference

    def _teller(self, pair: str) -> Callable[[str], None]:
        return lambda step: self._tell(f"{pair}: {step}")

    def _tell(self, line: str) -> None:
        if self._group.rank == 0:
            print(line, flush=True)

    def _find_foundation(self) -> bytes | None:
        """Weights to start from, unless they know what a run of the past may not, or are of another network."""
        model = self._registry.find(foundation_name(self._interval), CHAMPION)
        if model is None or int(model.tags[TAG_AS_OF_MS]) > self._as_of_ms:
            return None
        weights = load_weights(model.run_id)
        try:
            from_npz(weights, self._config, self._as_of_ms)
        except BadModel as error:  # after a change of MUR_ARCHITECTURE, or of the code
            self._tell(f"every pair is trained from nothing until train_foundation has run: {error}")
            return None
        return weights

    def _candles(self, pair: Pair) -> Candles:
        start_ms = self._as_of_ms - self._settings.history_candles * self._interval.ms
        return self._store.read(self._settings.market, pair, self._interval, start_ms, self._as_of_ms)

    def _compare(self, name: str, ready: Prepared, fitted: FittedModel) -> Comparison:
        """Challenger and champion of this moment on the same held-out candles, which neither was trained on."""
        champion = self._registry.find(name, CHAMPION)
        naive = fitted.metrics["pinball_naive"], fitted.metrics["diebold_mariano_t_vs_naive"]
        if champion is None:
            return Comparison(None, fitted.metrics["pinball"], None, None, *naive)
        held_out = score(self._registry.download(champion), ready, interval=self._interval)
        ours, theirs, t = compare(fitted.held_out, held_out)
        return Comparison(champion.version, ours, theirs, t, *naive)
