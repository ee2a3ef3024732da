"""Train a batch of pairs on a Ray cluster: the workers of one TorchTrainer share the pairs, or each pair's rows.

    python -m ray_jobs.train_pairs --pairs btc_usdt,eth_usdt --interval 1h --as-of-ms 1700000000000

Each pair ends as one small result in S3: see make_us_rich/operations/job_results.py. A pair that fails fails alone; the
job itself fails only if it cannot run. When a worker is lost, all begin again and leave out the pairs that have ended.
"""

from __future__ import annotations

from typing import Any

import torch

from make_us_rich.core.settings import get_settings
from make_us_rich.forecasting.process_group import ProcessGroup
from make_us_rich.registry.client import Registry
from ray_jobs.job import arguments, train_on_workers, whole_team, worker_device

# Pairs that a GPU trains at once; each takes some 30 MB of its memory. One is all that a CPU's core can do at a time.
_AT_ONCE_ON_A_GPU = 32


def main() -> None:
    train_on_workers(train_share, arguments("train a batch of pairs on a Ray cluster"), get_settings().train_workers)


def train_share(job: dict[str, Any]) -> None:
    """One worker's part. Of many pairs every n-th, without talking to the others; of few pairs some rows of each."""
    from ray_jobs.pair_trainer import PairTrainer

    group, pairs = whole_team(), job["pairs"]
    torch.set_num_threads(1)
    if group.size <= len(pairs):
        pairs, group = pairs[group.rank :: group.size], ProcessGroup()
    settings, device = get_settings(), worker_device()
    with Registry(settings) as registry:
        training = PairTrainer(
            settings, registry, job["interval"], job["as_of_ms"], job["submission_id"], group, device
        )
        training.run(pairs, at_once=1 if device == "cpu" else _AT_ONCE_ON_A_GPU)


if __name__ == "__main__":
    main()
