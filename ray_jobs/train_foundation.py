"""Train the foundation model: one model on the candles of many pairs, which `train_pairs` fine-tunes for each pair.

    python -m ray_jobs.train_foundation --pairs btc_usdt,eth_usdt --interval 1h --as-of-ms 1700000000000

It is registered as `foundation_1h`. The newest version becomes champion unless it is worse than naive.
"""

from __future__ import annotations

import torch

from make_us_rich.core.pair import BITCOIN, foundation_name
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.database.pool import Database
from make_us_rich.forecasting.recipe import FittedModel, fit_foundation
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.pipeline.ray_jobs import TAG_JOB
from make_us_rich.registry.client import CHAMPION, Registry
from make_us_rich.registry.promotion import PromotionDecision, promote
from make_us_rich.registry.publish import publish
from ray_jobs.job import TrainingJob, comparison, parse_arguments, process_group, run_on_workers, training_device


def main() -> None:
    run_on_workers(train, parse_arguments("train the foundation model"), get_settings().train_workers)


def train(job: TrainingJob) -> None:
    """Train the foundation model as one rank of all workers; rank 0 publishes it."""
    settings, group = get_settings(), process_group()
    torch.set_num_threads(1)
    store = CandleStore.from_settings(settings)
    candles = {pair: job.read_candles(store, settings, pair) for pair in {*job.pairs, BITCOIN}}
    task = TrainingTask(job.as_of_ms, job.config(settings), training_device(), group=group)
    fitted = fit_foundation({pair: candles[pair] for pair in job.pairs}, candles[BITCOIN], task)
    if group.rank == 0:
        print(f"learned from {fitted.params['pairs']}", flush=True)
        print(_publish(fitted, job, settings), flush=True)


def _publish(fitted: FittedModel, job: TrainingJob, settings: Settings) -> PromotionDecision:
    name = foundation_name(job.interval)
    tags = {TAG_JOB: job.submission_id}
    with Registry(settings) as registry, Database.from_settings(settings) as database:
        version = publish(registry, fitted, name=name, as_of_ms=job.as_of_ms, market=settings.market, tags=tags)
        print(f"{name} version {version.version}: {fitted.metrics['skill_vs_naive']:+.2%} against naive", flush=True)
        compared = comparison(fitted, registry.find(name, CHAMPION))
        return promote(registry, database, version, compared, expiry_hours=settings.model_expiry_hours)


if __name__ == "__main__":
    main()
