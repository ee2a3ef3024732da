"""Train one model on the candles of all pairs, for `train_pairs` to fine-tune from.

    python -m ray_jobs.train_foundation --pairs btc_usdt,eth_usdt --interval 1h --as-of-ms 1700000000000

It is registered as `foundation_1h`; the newest is its champion, unless it is worse than naive. Of more pairs than
MUR_FOUNDATION_PAIRS it learns from a draw, another each week.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.forecasting.pipeline import fit_foundation
from make_us_rich.forecasting.training_config import TrainingConfig
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.registry.client import CHAMPION, Registry, foundation_name
from make_us_rich.registry.mlflow import connect
from make_us_rich.registry.promotion import Comparison, promote
from make_us_rich.registry.publish import publish
from ray_jobs.job import arguments, train_on_workers, whole_team, worker_device


def main() -> None:
    args = arguments("train the model that all pairs are fine-tuned from")
    train_on_workers(train, args, get_settings().train_workers)


def train(job: dict[str, Any]) -> None:
    """What each worker does; the first one publishes what they trained together."""
    settings, group = get_settings(), whole_team()
    torch.set_num_threads(1)
    connect(settings)
    store = CandleStore.from_settings(settings)
    interval, as_of_ms = job["interval"], job["as_of_ms"]
    start_ms = as_of_ms - settings.history_candles * interval.ms
    pairs = drawn(job["pairs"], settings.foundation_pairs, as_of_ms)
    if group.rank == 0:
        print(f"{len(pairs)} of {len(job['pairs'])} pairs to learn from", flush=True)
    candles = {
        pair: store.read(settings.market, Pair.parse(pair), interval, start_ms, as_of_ms)
        for pair in sorted({*pairs, str(BITCOIN)})
    }
    fitted = fit_foundation(
        {pair: candles[pair] for pair in pairs},
        candles[str(BITCOIN)],
        interval=interval,
        as_of_ms=as_of_ms,
        config=TrainingConfig(architecture=settings.architecture),
        device=worker_device(),
        group=group,
    )
    if group.rank > 0:
        return
    name = foundation_name(interval)
    tags = {"ray_job": job["submission_id"]}
    _, version = publish(fitted, name=name, as_of_ms=as_of_ms, market=settings.market, tags=tags)
    print(f"{name} version {version}: {fitted.metrics['skill_vs_naive']:+.2%} against naive", flush=True)
    with Registry(settings) as registry:
        champion = registry.find(name, CHAMPION)
        comparison = Comparison(
            champion_version=champion.version if champion else None,
            challenger_pinball=fitted.metrics["pinball"],
            champion_pinball=None,
            t=None,
            naive_pinball=fitted.metrics["pinball_naive"],
            t_vs_naive=fitted.metrics["diebold_mariano_t_vs_naive"],
        )
        decision = promote(
            registry,
            settings.database_url.get_secret_value(),
            registry.get(name, version),
            comparison,
            expiry_hours=settings.model_expiry_hours,
        )
    print(decision, flush=True)


def drawn(pairs: Sequence[str], most: int, as_of_ms: int) -> list[str]:
    """So many of the pairs, the same for every worker and try as of this time."""
    if len(pairs) <= most:
        return list(pairs)
    return random.Random(as_of_ms).sample(sorted(pairs), most)


if __name__ == "__main__":
    main()
