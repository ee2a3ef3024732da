"""Train a batch of pairs on a Ray cluster: the workers of one TorchTrainer share the pairs.

    python -m ray_jobs.train_pairs --pairs btc_usdt,eth_usdt --interval 1h --as-of-ms 1700000000000

Each pair ends as one small row in S3, `jobs/{submission id}/{pair}.json`: trained (with its registered version and
metrics) or failed (with the reason). A pair that fails fails alone; the job itself fails only if it cannot run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from make_us_rich.settings import get_settings


def main() -> None:
    args = _arguments()
    settings = get_settings()
    pairs = args.pairs.split(",")
    job = {
        "pairs": pairs,
        "interval": args.interval,
        "as_of_ms": args.as_of_ms,
        "submission_id": args.submission_id,
    }
    gpus = torch.cuda.is_available()
    # Ray Train insists on a folder; our results go to MLflow and S3
    with tempfile.TemporaryDirectory(prefix="mur-train-") as storage:
        trainer = TorchTrainer(
            train_share,
            train_loop_config=job,
            scaling_config=ScalingConfig(num_workers=min(settings.train_workers, len(pairs)), use_gpu=gpus),
            run_config=RunConfig(name=args.submission_id, storage_path=storage),
        )
        trainer.fit()
        print("clean", flush=True)


def train_share(job: dict[str, Any]) -> None:
    """One worker's part: every n-th pair of the batch, trained one after the other, without talking to the others."""
    from ray_jobs.pair_training import PairTraining

    context = ray.train.get_context()
    torch.set_num_threads(1)
    training = PairTraining(get_settings(), job["interval"], job["as_of_ms"], job["submission_id"])
    for pair in job["pairs"][context.get_world_rank() :: context.get_world_size()]:
        training.run(pair)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="train a batch of pairs on a Ray cluster")
    parser.add_argument("--pairs", required=True, help="comma separated, such as btc_usdt,eth_usdt")
    parser.add_argument("--interval", default="1h")
    parser.add_argument("--as-of-ms", type=int, required=True, help="the last close that training may see")
    parser.add_argument("--submission-id", default=os.environ.get("RAY_JOB_SUBMISSION_ID", "by-hand"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
