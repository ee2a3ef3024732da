"""What the training jobs share: their command line, and one TorchTrainer."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from make_us_rich.forecasting.team import Team
from make_us_rich.intervals import trained_interval
from make_us_rich.settings import get_settings

_RESTARTS = 4  # of all workers, when one was killed


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", required=True, help="comma separated, such as btc_usdt,eth_usdt")
    parser.add_argument("--interval", default="1h", type=trained_interval, help="only 1h is supported")
    parser.add_argument("--as-of-ms", type=int, required=True, help="the last close that training may see")
    parser.add_argument("--submission-id", default=os.environ.get("RAY_JOB_SUBMISSION_ID", "by-hand"))
    return parser.parse_args()


def train_on_workers(loop: Callable[[dict[str, Any]], None], args: argparse.Namespace, workers: int) -> None:
    """Run `loop` on so many Ray Train workers, each with a GPU or its share of one where there are GPUs.

    When a worker is killed, all of them start again: `loop` has to leave out what is done.
    """
    job = {
        "pairs": args.pairs.split(","),
        "interval": args.interval,
        "as_of_ms": args.as_of_ms,
        "submission_id": args.submission_id,
    }
    # else Ray Train logs what a worker prints, beside the line that was printed
    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"

    def work(job: dict[str, Any]) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells each request
        loop(job)

    share = get_settings().gpus_per_worker
    gpus = torch.cuda.is_available()
    # Ray Train insists on a folder; our results go to MLflow and S3
    with tempfile.TemporaryDirectory(prefix="mur-train-") as storage:
        trainer = TorchTrainer(
            work,
            train_loop_config=job,
            # NCCL wants a whole GPU for each worker
            torch_config=TorchConfig(backend="nccl" if gpus and share >= 1 else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=gpus,
                resources_per_worker={"CPU": 1, "GPU": share} if gpus else None,
            ),
            run_config=RunConfig(
                name=args.submission_id,
                storage_path=storage,
                failure_config=FailureConfig(max_failures=_RESTARTS),
            ),
        )
        trainer.fit()
        print("clean", flush=True)


def whole_team() -> Team:
    """All workers of this job, as one team."""
    context = ray.train.get_context()
    return Team(context.get_world_rank(), context.get_world_size())
