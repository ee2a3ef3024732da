"""What the training jobs share: their command line, and one TorchTrainer."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

_LOST_WORKERS = 4
"""Times that all workers begin again after one was lost; what the loop finished before, it finds done."""


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", required=True, help="comma separated, such as btc_usdt,eth_usdt")
    parser.add_argument("--interval", default="1h")
    parser.add_argument("--as-of-ms", type=int, required=True, help="the last close that training may see")
    parser.add_argument("--submission-id", default=os.environ.get("RAY_JOB_SUBMISSION_ID", "by-hand"))
    return parser.parse_args()


def train_on_workers(loop: Callable[[dict[str, Any]], None], args: argparse.Namespace, workers: int) -> None:
    """Run `loop` on so many Ray Train workers, with a GPU each where there are GPUs."""
    job = {
        "pairs": args.pairs.split(","),
        "interval": args.interval,
        "as_of_ms": args.as_of_ms,
        "submission_id": args.submission_id,
    }
    # Ray Train insists on a folder; our results go to MLflow and S3
    with tempfile.TemporaryDirectory(prefix="mur-train-") as storage:
        trainer = TorchTrainer(
            loop,
            train_loop_config=job,
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=torch.cuda.is_available()),
            run_config=RunConfig(
                name=args.submission_id,
                storage_path=storage,
                failure_config=FailureConfig(max_failures=_LOST_WORKERS),
            ),
        )
        trainer.fit()
        print("clean", flush=True)
