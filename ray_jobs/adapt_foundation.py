"""Adapt the foundation to pairs that have no model of their own: its level of volatility, and its calibration.

    python -m ray_jobs.adapt_foundation --pairs new_usdt,young_usdt --interval 1h --as-of-ms 1700000000000

A pair takes less than a second, so the job runs on the Ray head and starts no workers. It skips the pairs that need not
be adapted: see `adapted.reason_against`. A pair with too little history is no error: it is forecast by the foundation
without adaptation. Any other error of a pair fails the job, after the other pairs.
"""

from __future__ import annotations

import torch

from make_us_rich.core.errors import BadCandles, MakeUsRichError, NotEnoughHistory, RegistryError
from make_us_rich.core.pair import BITCOIN, Pair, Series, foundation_name
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.forecasting.recipe import adapt_foundation
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.registry import adapted
from make_us_rich.registry.client import CHAMPION, ModelVersion, Registry
from make_us_rich.registry.publish import version_tags
from ray_jobs.job import TrainingJob, parse_arguments


def main() -> None:
    torch.set_num_threads(1)
    adapt(get_settings(), parse_arguments("adapt the foundation to pairs that have no model of their own"))


def adapt(settings: Settings, job: TrainingJob) -> None:
    """Adapt the foundation's champion to the job's pairs. Raises RegistryError without one; else a pair's error."""
    name, last_error = foundation_name(job.interval), None
    with Registry(settings) as registry:
        foundation = registry.find(name, CHAMPION)
        if foundation is None:
            raise RegistryError(f"there is no {name} to adapt: train it with train_foundation")
        weights = registry.weights(foundation)
        for pair in job.pairs:
            try:
                outcome = _adapt_pair(settings, registry, foundation, weights, pair, job)
            except (NotEnoughHistory, BadCandles) as error:
                outcome = f"not adapted: {error}"
            except MakeUsRichError as error:
                outcome, last_error = f"failed: {error}", error
            print(f"{pair}: {outcome}", flush=True)
    if last_error is not None:
        raise last_error


def _adapt_pair(
    settings: Settings, registry: Registry, foundation: ModelVersion, weights: bytes, pair: Pair, job: TrainingJob
) -> str:
    """Adapt a foundation to one pair and register it, unless that is not needed. Returns the outcome in words."""
    reason = adapted.reason_against(registry, foundation, Series(pair, job.interval), job.as_of_ms)
    if reason:
        return reason
    store = CandleStore.from_settings(settings)
    own, bitcoin = (job.read_candles(store, settings, each) for each in (pair, BITCOIN))
    task = TrainingTask(job.as_of_ms, job.config(settings))
    fitted = adapt_foundation(own, bitcoin, task, foundation=weights)
    version = adapted.register(
        registry,
        foundation,
        pair,
        fitted.onnx,
        as_of_ms=job.as_of_ms,
        tags=version_tags(fitted, job.as_of_ms, settings.market),
        params=fitted.params,
        metrics=fitted.metrics,
    )
    return f"version {version} of {foundation.name}, {fitted.metrics['skill_vs_naive']:+.2%} against naive"


if __name__ == "__main__":
    main()
