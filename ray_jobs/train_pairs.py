"""Train a batch of pairs on a Ray cluster: the workers of one TorchTrainer share the pairs.

    python -m ray_jobs.train_pairs --pairs btc_usdt,eth_usdt --interval 1h --as-of-ms 1700000000000

Each pair ends as one small row in S3: see make_us_rich/job_rows.py. A pair that fails fails alone; the job itself fails
only if it cannot run. When a worker is lost, all begin again and leave out the pairs that have ended.
"""

from __future__ import annotations

from typing import Any

import ray
import torch

from make_us_rich.settings import get_settings
from ray_jobs.job import arguments, train_on_workers


def main() -> None:
    args = arguments("train a batch of pairs on a Ray cluster")
    workers = min(get_settings().train_workers, len(args.pairs.split(",")))
    train_on_workers(train_share, args, workers)


def train_share(job: dict[str, Any]) -> None:
    """One worker's part: every n-th pair of the batch, one after the other, without talking to the other workers."""
    from ray_jobs.pair_training import PairTraining

    context = ray.train.get_context()
    torch.set_num_threads(1)
    training = PairTraining(get_settings(), job["interval"], job["as_of_ms"], job["submission_id"])
    for pair in job["pairs"][context.get_world_rank() :: context.get_world_size()]:
        training.run(pair)


if __name__ == "__main__":
    main()
