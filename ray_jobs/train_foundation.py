"""Train the foundation model: one model on the candles of many pairs, which `train_pairs` fine-tunes for each pair.

    python -m ray_jobs.train_foundation --pairs btc_usdt,eth_usdt --interval 1h --as-of-ms 1700000000000

It is registered as `foundation_1h`. The newest version becomes champion unless it is worse than naive.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from make_us_rich.core.pair import BITCOIN, foundation_name
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.database.pool import Database
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.recipe import FittedModel, fit_foundation
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.pipeline.ray_jobs import TAG_JOB
from make_us_rich.registry.client import CHAMPION, Registry, connect_mlflow
from make_us_rich.registry.promotion import PromotionDecision, promote
from make_us_rich.registry.publish import publish
from ray_jobs.job import TrainingJob, comparison, parse_arguments, process_group, run_on_workers, training_device


def main() -> None:
    run_on_workers(train, parse_arguments("train the foundation model"), get_settings().train_workers)


def train(job: TrainingJob) -> None:
    """Train the foundation model as one rank of all workers; rank 0 publishes it."""
    settings, group = get_settings(), process_group()
    torch.set_num_threads(1)
    connect_mlflow(settings)
    store = CandleStore.from_settings(settings)
    start_ms = job.as_of_ms - settings.training_candles(job.interval) * job.interval.ms
    candles = {
        pair: store.read(settings.market, pair, job.interval, start_ms, job.as_of_ms) for pair in {*job.pairs, BITCOIN}
    }
    fitted = fit_foundation(
        {pair: candles[pair] for pair in job.pairs},
        candles[BITCOIN],
        interval=job.interval,
        as_of_ms=job.as_of_ms,
        config=replace(TrainingConfig.of(job.interval), architecture=settings.architecture),
        device=training_device(),
        group=group,
    )
    if group.rank == 0:
        print(f"learned from {fitted.params['pairs']}", flush=True)
        print(_publish(fitted, job, settings), flush=True)


def _publish(fitted: FittedModel, job: TrainingJob, settings: Settings) -> PromotionDecision:
    name = foundation_name(job.interval)
    tags = {TAG_JOB: job.submission_id}
    _, version = publish(fitted, name=name, as_of_ms=job.as_of_ms, market=settings.market, tags=tags)
    print(f"{name} version {version}: {fitted.metrics['skill_vs_naive']:+.2%} against naive", flush=True)
    with Registry(settings) as registry, Database.from_settings(settings) as database:
        compared = comparison(fitted, registry.find(name, CHAMPION))
        return promote(
            registry, database, registry.get(name, version), compared, expiry_hours=settings.model_expiry_hours
        )


if __name__ == "__main__":
    main()
