"""Train a batch of pairs on a Ray cluster: the workers of one TorchTrainer share the pairs, or each pair's rows.

    python -m ray_jobs.train_pairs --pairs btc_usdt,eth_usdt --interval 1h --as-of-ms 1700000000000

Each pair ends as one small row in S3: see make_us_rich/job_rows.py. A pair that fails fails alone; the job itself fails
only if it cannot run. When a worker is lost, all begin again and leave out the pairs that have ended.
"""

from __future__ import annotations

from typing import Any

import torch

from make_us_rich.forecasting.team import Team
from make_us_rich.registry import Registry
from make_us_rich.settings import get_settings
from ray_jobs.job import arguments, train_on_workers, whole_team, worker_device

# Pairs that a GPU trains at once; each takes some 30 MB of its memory. One is all that a CPU's core can do at a time.
_AT_ONCE_ON_A_GPU = 32


def main() -> None:
    train_on_workers(
        train_share, arguments("train a batch of pairs on a Ray cluster"), get_settings().train_workers
    )


def train_share(job: dict[str, Any]) -> None:
    """One worker's part. Of many pairs every n-th, without talking to the others; of few pairs some rows of each."""
    from ray_jobs.pair_training import PairTraining

    team, pairs = whole_team(), job["pairs"]
    torch.set_num_threads(1)
    if team.size <= len(pairs):
        pairs, team = pairs[team.rank :: team.size], Team()
    settings, device = get_settings(), worker_device()
    with Registry(settings) as registry:
        training = PairTraining(
            settings, registry, job["interval"], job["as_of_ms"], job["submission_id"], team, device
        )
        training.run(pairs, at_once=1 if device == "cpu" else _AT_ONCE_ON_A_GPU)


if __name__ == "__main__":
    main()
