"""One pair from candles to a registered version, told step by step, ending as one row of results."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import mlflow
import torch

from make_us_rich.errors import MakeUsRichError, StoreError
from make_us_rich.forecasting.evaluate import compare
from make_us_rich.forecasting.pipeline import FittedModel, Recipe, fit, score
from make_us_rich.forecasting.team import Team
from make_us_rich.intervals import interval_ms
from make_us_rich.market.candles import Candles
from make_us_rich.market.store import CandleStore
from make_us_rich.pairs import BITCOIN, Pair
from make_us_rich.promotion import Comparison
from make_us_rich.publishing import load_weights, publish
from make_us_rich.registry import CHAMPION, TAG_AS_OF_MS, Registry, foundation_name, model_name
from make_us_rich.settings import Settings


class PairTraining:
    def __init__(
        self, settings: Settings, interval: str, as_of_ms: int, submission_id: str, team: Team
    ) -> None:
        self._settings = settings
        self._interval = interval
        self._as_of_ms = as_of_ms
        self._submission_id = submission_id
        self._team = team
        self._recipe = Recipe(architecture=settings.architecture)
        self._store = CandleStore.from_settings(settings)
        self._registry = Registry(settings.mlflow_url)
        mlflow.set_tracking_uri(settings.mlflow_url)
        self._foundation = self._find_foundation()

    def run(self, pair: str) -> None:
        """Train one pair and write its row; whatever goes wrong with it stays in the row.

        A pair that has its row already was trained before a worker died and all were started again.
        """
        key = f"jobs/{self._submission_id}/{pair}.json"
        if self._store.get(key) is not None:
            return
        began = time.monotonic()
        try:
            trained = self._train(pair)
            row = {"status": "trained", **trained} if trained else {}
        except Exception as error:  # a bad pair must not take the batch with it
            reason = str(error) if isinstance(error, MakeUsRichError) else repr(error)
            row = {"status": "failed", "reason": reason, "kind": type(error).__name__}
            print(f"{pair}: failed: {reason}", flush=True)
        if self._team.rank == 0:
            self._store.put_json(key, row | {"pair": pair, "seconds": round(time.monotonic() - began, 2)})

    def _train(self, pair: str) -> dict[str, Any] | None:
        """The row of a trained pair; None for all of a team but the first, who publishes."""
        name = model_name(Pair.parse(pair), self._interval)
        candles, reference = self._read(Pair.parse(pair))
        fitted = fit(
            candles,
            reference,
            pair=pair,
            interval=self._interval,
            as_of_ms=self._as_of_ms,
            recipe=self._recipe,
            foundation=self._foundation,
            device="cuda" if torch.cuda.is_available() else "cpu",
            on_step=lambda step: self._tell(f"{pair}: {step}"),
            team=self._team,
        )
        if self._team.rank > 0:
            return None
        self._tell(f"{pair}: upload")
        run_id, version = publish(
            fitted,
            name=name,
            as_of_ms=self._as_of_ms,
            market=self._settings.market,
            tags={"ray_job": self._submission_id},
        )
        comparison = self._compare(name, candles, reference, fitted)
        return {
            "name": name,
            "version": version,
            "run_id": run_id,
            "metrics": fitted.metrics,
            "comparison": asdict(comparison),
        }

    def _read(self, pair: Pair) -> tuple[Candles, Candles]:
        """Both markets' candles, or StoreError for all of a team when one of it could not read them.

        From here on all of a team do the same, so nobody waits for one that gave up.
        """
        found, trouble = [], ""
        try:
            found = [self._candles(pair), self._candles(BITCOIN)]
        except StoreError as error:
            trouble = str(error)
        trouble = self._team.first_error(trouble)
        if trouble:
            raise StoreError(trouble)
        candles, reference = found
        return candles, reference

    def _tell(self, line: str) -> None:
        if self._team.rank == 0:
            print(line, flush=True)

    def _find_foundation(self) -> bytes | None:
        """Weights to start from, unless they have seen what a run of the past may not know."""
        model = self._registry.find(foundation_name(self._interval), CHAMPION)
        if model is None or int(model.tags[TAG_AS_OF_MS]) > self._as_of_ms:
            return None
        return load_weights(model.run_id)

    def _candles(self, pair: Pair) -> Candles:
        start_ms = self._as_of_ms - self._settings.history_candles * interval_ms(self._interval)
        return self._store.read(self._settings.market, pair, self._interval, start_ms, self._as_of_ms)

    def _compare(self, name: str, candles: Candles, reference: Candles, fitted: FittedModel) -> Comparison:
        """Challenger and champion of this moment on the same held-out candles, which neither was trained on."""
        champion = self._registry.find(name, CHAMPION)
        naive = fitted.metrics["pinball_naive"], fitted.metrics["diebold_mariano_t_vs_naive"]
        if champion is None:
            return Comparison(None, fitted.metrics["pinball"], None, None, *naive)
        held_out = score(
            self._registry.download(champion),
            candles,
            reference,
            interval=self._interval,
            as_of_ms=self._as_of_ms,
            recipe=self._recipe,
        )
        ours, theirs, t = compare(fitted.held_out, held_out)
        return Comparison(champion.version, ours, theirs, t, *naive)
