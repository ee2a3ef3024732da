"""Train one network, in one or several processes: schedule, early stopping, calibration on the validation samples."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR

from make_us_rich.core.interval import Interval
from make_us_rich.forecasting.architectures import TrainingConfig, new_network
from make_us_rich.forecasting.networks import Loss, Network
from make_us_rich.forecasting.samples import Samples, concatenate

_PATIENCE = 3  # epochs without a better validation loss, then training stops
_WARM_UP_STEPS = 50
_MAX_GRADIENT_NORM = 1.0


def _data_parallel(module: nn.Module) -> nn.Module:
    return DistributedDataParallel(module, forward_sync_buffers=False)


@dataclass(frozen=True)
class ProcessGroup:
    """One rank of data-parallel training. The default is a single process.

    Each rank trains on its shard of every batch. All hold the same samples in the same order and start from the same
    weights, so averaged gradients keep their networks equal. With a world size above 1, torch's process group must be
    initialised. `wrap` makes a module average its gradients over all ranks.
    """

    rank: int = 0
    world_size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _data_parallel

    def data_parallel(self, module: nn.Module) -> nn.Module:
        """Return the module with gradients averaged over the group. Collective: every rank must call it."""
        return module if self.world_size == 1 else self.wrap(module)

    def shard(self, batch: Tensor) -> Tensor:
        """Return this rank's samples of a batch; at least one, because every rank must compute a gradient."""
        own = batch[self.rank :: self.world_size]
        return own if len(own) else batch[:1]

    def loss_weight(self, batch: Tensor) -> float:
        """Return the factor of this rank's mean loss that makes the average over ranks the mean loss of the batch.

        Shards differ in length by up to one sample and may be empty.
        """
        return len(batch[self.rank :: self.world_size]) * self.world_size / len(batch)

    def first_error(self, error: str) -> str:
        """Return the first error of any rank; empty if no rank has one. Collective: every rank must call it."""
        if self.world_size == 1:
            return error
        errors: list[str] = [""] * self.world_size
        distributed.all_gather_object(errors, error)
        return next(filter(None, errors), "")


@dataclass(frozen=True)
class TrainingTask:
    """What every step of a training needs to know. None of them sees a candle that closed after `as_of_ms`.

    on_step: called with the name of each step as it begins. group: the ranks that train together.
    """

    as_of_ms: int
    config: TrainingConfig
    device: str = "cpu"
    on_step: Callable[[str], None] = lambda step: None
    group: ProcessGroup = ProcessGroup()

    @property
    def interval(self) -> Interval:
        return self.config.interval


FROM_SCRATCH, FROM_WEIGHTS = "from scratch", "weights"
"""Values of the parameter `start` of a training run in MLflow. Older runs say "nothing" for "from scratch"."""


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network.

    curves: train_loss and validation_loss of each epoch; quantile networks measure returns divided by volatility.
    start: the initial weights, FROM_SCRATCH (random) or FROM_WEIGHTS (those of another model).
    """

    network: Network
    curves: list[dict[str, float]]
    start: str


def train(samples: Samples, validation: Samples, task: TrainingTask) -> TrainedNetwork:
    """Train a new network from scratch; keep the epoch with the best validation loss, and calibrate it."""
    samples, validation = samples.to(task.device), validation.to(task.device)
    task.on_step("scale")
    network = _new_network(samples, task.config)
    task.on_step("train")
    best, best_loss, since_best, curves = copy.deepcopy(network.state_dict()), math.inf, 0, []
    for losses in _train_epochs(network, repeat(samples, task.config.epochs), validation, task):
        curves.append(losses)
        since_best += 1
        if losses["validation_loss"] < best_loss:
            best, best_loss, since_best = copy.deepcopy(network.state_dict()), losses["validation_loss"], 0
        if since_best >= _PATIENCE:
            break
    network.load_state_dict(best)
    network.calibrate(validation)
    return TrainedNetwork(network, curves, FROM_SCRATCH)


def train_foundation(drawn: Callable[[int], Samples], validation: Samples, task: TrainingTask) -> TrainedNetwork:
    """Train one network on samples of many pairs. `drawn` returns those of each epoch, the same number for each.

    The number of epochs is fixed, so that the newest weeks are trained on rather than reserved for early stopping:
    they matter most after the market has changed. The validation losses are therefore in-sample.
    """
    validation = validation.to(task.device)
    network = _new_network(drawn(0).to(task.device), task.config)
    epochs = (drawn(epoch).to(task.device) for epoch in range(task.config.epochs))
    curves = list(_train_epochs(network, epochs, validation, task))
    network.calibrate(validation)
    return TrainedNetwork(network, curves, FROM_SCRATCH)


def fine_tune(start: Network, samples: Samples, validation: Samples, task: TrainingTask) -> TrainedNetwork:
    """Fine-tune a network of many pairs, or an earlier one of this pair, on all samples, validation included."""
    config, validation = task.config, validation.to(task.device)
    task.on_step("scale")
    everything = concatenate([samples.to(task.device), validation])
    network = _copy_for_pair(start, everything, config)
    task.on_step("train")
    gently = replace(config, epochs=config.fine_tune_epochs, learning_rate=config.fine_tune_learning_rate)
    epochs = repeat(everything, gently.epochs)
    curves = list(_train_epochs(network, epochs, validation, replace(task, config=gently)))
    network.calibrate(everything[-config.calibration :])
    return TrainedNetwork(network, curves, FROM_WEIGHTS)


def adapt(start: Network, samples: Samples, config: TrainingConfig) -> TrainedNetwork:
    """Adapt the level of volatility and the calibration of a network of many pairs to one pair; trains no weight."""
    network = _copy_for_pair(start, samples, config).eval()
    network.calibrate(samples[-config.calibration :])
    return TrainedNetwork(network, [], FROM_WEIGHTS)


def _copy_for_pair(start: Network, samples: Samples, config: TrainingConfig) -> Network:
    """Copy a network to the samples' device and adapt its scaling to their pair."""
    network = copy.deepcopy(start).to(samples.target.device)
    network.adapt_to_pair(samples[-config.level :])
    return network


def _train_epochs(
    network: Network, epochs: Iterable[Samples], validation: Samples, task: TrainingTask
) -> Iterator[dict[str, float]]:
    """Train epoch by epoch and yield the losses of each; the network is left in evaluation mode.

    epochs: the samples of each of the `task.config.epochs` epochs, the same number for each.
    """
    config, group = task.config, task.group
    loss_function = group.data_parallel(Loss(network))
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    shuffle = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed + group.rank)  # for dropout
    schedule = None
    for samples in epochs:
        schedule = schedule or LambdaLR(optimiser, _warm_up_then_linear_decay(len(samples), config))
        network.train()
        total = torch.zeros((), dtype=torch.float64, device=samples.target.device)
        for batch in torch.split(torch.randperm(len(samples), generator=shuffle), config.batch):
            shard = group.shard(batch)
            loss = loss_function(samples.sequence[shard], samples.static[shard], samples.target[shard])
            optimiser.zero_grad()
            (group.loss_weight(batch) * loss).backward()
            clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            total = total + loss.detach().double() * len(batch)
        network.eval()
        yield {"train_loss": float(total / len(samples)), "validation_loss": _mean_loss(network, validation)}


def _new_network(samples: Samples, config: TrainingConfig) -> Network:
    torch.manual_seed(config.seed)
    network = new_network(config).to(samples.target.device)
    network.fit_scaling(samples)
    return network


def _mean_loss(network: Network, samples: Samples) -> float:
    with torch.no_grad():
        losses = [
            network.loss(part.sequence, part.static, part.target) * (len(part) / len(samples))
            for part in samples.chunks()
        ]
    return float(torch.stack(losses).sum())


def _warm_up_then_linear_decay(count: int, config: TrainingConfig) -> Callable[[int], float]:
    """Return the learning-rate schedule for `count` samples: linear warm-up, then linear decay to zero."""
    steps = config.epochs * math.ceil(count / config.batch)
    return lambda step: min(1.0, (step + 1) / _WARM_UP_STEPS) * max(0.0, 1 - step / steps)
