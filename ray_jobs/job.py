"""What the training jobs share: their command line, and one TorchTrainer."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from torch import distributed, nn

from make_us_rich.core.interval import Interval
from make_us_rich.core.settings import get_settings
from make_us_rich.forecasting.process_group import ProcessGroup
from ray_jobs.placement import find_placement

_RESTARTS = 4  # of all workers, when one was killed
_STARTS = 10  # tries of a minute each to start them, when another job took the places that were found


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", required=True, help="comma separated, such as btc_usdt,eth_usdt")
    parser.add_argument("--interval", default="1h", type=Interval.parse_trained, help="only 1h is supported")
    parser.add_argument("--as-of-ms", type=int, required=True, help="the last close that training may see")
    parser.add_argument("--submission-id", default=os.environ.get("RAY_JOB_SUBMISSION_ID", "by-hand"))
    return parser.parse_args()


def train_on_workers(loop: Callable[[dict[str, Any]], None], args: argparse.Namespace, most: int) -> None:
    """Run `loop` on up to so many Ray Train workers: on GPUs if the cluster has any or can start one, else on CPUs.

    When a worker is killed, all of them start again: `loop` has to leave out what is done. Raises NoPlacement.
    """
    job = {
        "pairs": args.pairs.split(","),
        "interval": args.interval,
        "as_of_ms": args.as_of_ms,
        "submission_id": args.submission_id,
    }
    # else Ray Train logs what a worker prints, beside the line that was printed
    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"
    # the autoscaler's refusals of a GPU would read like errors
    os.environ["RAY_SCHEDULER_EVENTS"] = "0"

    def work(job: dict[str, Any]) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells each request
        loop(job)

    ray.init()
    places = find_placement(most, get_settings().gpus_per_worker)
    print(f"{places.workers} of at most {most} workers, each with {places.each}", flush=True)
    # NCCL wants a whole GPU for each worker
    nccl = places.gpu >= 1 and distributed.is_nccl_available()
    # Ray Train insists on a folder; our results go to MLflow and S3
    with tempfile.TemporaryDirectory(prefix="mur-train-") as storage:
        trainer = TorchTrainer(
            work,
            train_loop_config=job,
            torch_config=TorchConfig(backend="nccl" if nccl else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=places.workers, use_gpu=places.gpu > 0, resources_per_worker=places.each
            ),
            run_config=RunConfig(
                name=args.submission_id,
                storage_path=storage,
                failure_config=FailureConfig(max_failures=_RESTARTS, controller_failure_limit=_STARTS),
            ),
        )
        trainer.fit()
        print("clean", flush=True)


def whole_team() -> ProcessGroup:
    """All workers of this job, as one group."""
    context = ray.train.get_context()
    return ProcessGroup(context.get_world_rank(), context.get_world_size(), _shared)


def worker_device() -> str:
    """The device that Ray reserved for this worker, made torch's current one."""
    device = ray.train.torch.get_device()
    if device.type != "cuda":
        return str(device)
    if not torch.cuda.is_available():
        print("this worker has a GPU that its PyTorch cannot use, so it trains on the CPU: see docs/how-to/deploy.md")
        return "cpu"
    torch.cuda.set_device(device)
    return str(device)


def _shared(module: nn.Module) -> nn.Module:
    # buffers never change while a network trains; there is no need to send them before each step
    kwargs = {"forward_sync_buffers": False}
    prepared: nn.Module = ray.train.torch.prepare_model(module, move_to_device=False, parallel_strategy_kwargs=kwargs)
    return prepared
