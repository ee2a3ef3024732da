"""What the training jobs share: their command line, and one TorchTrainer."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import ray
import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import nn

from make_us_rich.core.arguments import argument, parse_pairs
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.documents import Comparison
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.evaluation import MEAN_SKILL, MEAN_T, ModelComparison
from make_us_rich.forecasting.recipe import FittedModel
from make_us_rich.forecasting.training import ProcessGroup
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.registry.client import ModelVersion
from ray_jobs.placement import find_placement
from ray_jobs.torch_backend import GLOO, NCCL, NodeTorchConfig

_MAX_RESTARTS = 4  # of all workers, after one was killed
_RESIZE_S = 24 * 3600.0  # never while all workers are well: it would interrupt the pairs in training
_MAX_START_ATTEMPTS = 10  # of a minute each, when another job took the CPUs or GPUs that were found


@dataclass(frozen=True)
class TrainingJob:
    """What the driver sends to every worker. Training sees no candle that closed after `as_of_ms`.

    stop_at_ms: time after which no further pair is begun; None for no limit.
    """

    pairs: tuple[Pair, ...]
    interval: Interval
    as_of_ms: int
    submission_id: str
    stop_at_ms: int | None = None

    @property
    def is_over(self) -> bool:
        """True when no further pair may be begun."""
        return self.stop_at_ms is not None and time.time() * 1000 >= self.stop_at_ms

    def config(self, settings: Settings) -> TrainingConfig:
        """Return the config of the job's interval and the installation's architecture."""
        return TrainingConfig.of(self.interval, settings.architecture)

    def read_candles(self, store: CandleStore, settings: Settings, pair: Pair) -> Candles:
        """Read the candles that training a pair needs. Raises StoreError."""
        start_ms = self.as_of_ms - settings.training_candles(self.interval) * self.interval.ms
        return store.read(settings.market, pair, self.interval, start_ms, self.as_of_ms)


def parse_arguments(description: str) -> TrainingJob:
    """Read the job from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", required=True, type=argument(parse_pairs), help="such as btc_usdt,eth_usdt")
    parser.add_argument("--interval", default="1h", type=argument(Interval.parse_trained), help="15m, 1h, 4h or 1d")
    parser.add_argument("--as-of-ms", type=int, required=True, help="the last close that training may see")
    parser.add_argument("--stop-at-ms", type=int, help="time after which no further pair is begun")
    parser.add_argument("--submission-id", default=os.environ.get("RAY_JOB_SUBMISSION_ID", "by-hand"))
    args = parser.parse_args()
    return TrainingJob(args.pairs, args.interval, args.as_of_ms, args.submission_id, args.stop_at_ms)


def run_on_workers(train: Callable[[TrainingJob], None], job: TrainingJob, max_workers: int) -> None:
    """Run `train` on up to `max_workers` Ray Train workers: on GPUs if the cluster has or can start any, else on CPUs.

    When a worker is killed, all of them are restarted: `train` must skip what is done. Raises NoPlacement.
    """
    # otherwise Ray Train logs each line that a worker prints a second time
    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"
    # the autoscaler reports an infeasible GPU request as if it were an error
    os.environ["RAY_SCHEDULER_EVENTS"] = "0"

    def train_loop() -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
        train(job)

    # Ray Train's process that cleans up after a killed job finds the cluster only by this variable
    address = os.environ.get("RAY_ADDRESS")
    ray.init(runtime_env={"env_vars": {"RAY_ADDRESS": address}} if address else None)
    placement = find_placement(max_workers, get_settings().gpus_per_worker)
    print(f"{placement.workers} of at most {max_workers} workers, each with {placement.resources}", flush=True)
    # NCCL needs a whole GPU for each rank
    backend = NCCL if placement.gpu >= 1 else GLOO
    # Ray Train requires a storage folder; results go to MLflow and S3 instead
    with tempfile.TemporaryDirectory(prefix="mur-train-") as storage:
        trainer = TorchTrainer(
            train_loop,
            torch_config=NodeTorchConfig(backend=backend),
            scaling_config=ScalingConfig(  # type: ignore[call-arg]  # Ray declares the class of its older version
                # fewer after the loss of a host, which may not come back
                num_workers=(1, placement.workers),  # type: ignore[arg-type]
                elastic_resize_monitor_interval_s=_RESIZE_S,
                use_gpu=placement.gpu > 0,
                resources_per_worker=placement.resources,
            ),
            run_config=RunConfig(
                name=job.submission_id,
                storage_path=storage,
                failure_config=FailureConfig(max_failures=_MAX_RESTARTS, controller_failure_limit=_MAX_START_ATTEMPTS),  # type: ignore[call-arg]
            ),
        )
        trainer.fit()
        print("clean", flush=True)


def process_group() -> ProcessGroup:
    """Return the process group of all workers of this job."""
    context = ray.train.get_context()
    return ProcessGroup(context.get_world_rank(), context.get_world_size(), _data_parallel)


def training_device() -> str:
    """Return the device that Ray reserved for this worker and make it torch's current device."""
    device = ray.train.torch.get_device()
    if device.type != "cuda":
        return str(device)
    if not torch.cuda.is_available():
        print("this worker has a GPU that its PyTorch cannot use, so it trains on the CPU: see docs/how-to/deploy.md")
        return "cpu"
    torch.cuda.set_device(device)
    return str(device)


def comparison(
    fitted: FittedModel, champion: ModelVersion | None, on_same_candles: ModelComparison | None = None
) -> Comparison:
    """Return what decides on the promotion of a new model.

    `on_same_candles`: the model and the champion on the same candles; None where the champion was not evaluated again.
    """
    metrics, against = fitted.metrics, on_same_candles
    return Comparison(
        champion_version=champion.version if champion else None,
        challenger_pinball=against.challenger_pinball if against else metrics["pinball"],
        champion_pinball=against.champion_pinball if against else None,
        t=against.t if against else None,
        naive_pinball=metrics["pinball_naive"],
        t_vs_naive=metrics[MEAN_T],
        skill_vs_naive=metrics[MEAN_SKILL],
        mean=against.mean if against else None,
        challenger_horizons=fitted.holdout.horizons,
        champion_horizons=against.champion_horizons if against else 1,
    )


def _data_parallel(module: nn.Module) -> nn.Module:
    # buffers do not change during training, so there is no need to broadcast them before each step
    kwargs = {"forward_sync_buffers": False}
    prepared: nn.Module = ray.train.torch.prepare_model(module, move_to_device=False, parallel_strategy_kwargs=kwargs)
    return prepared
