"""Train one network: loss, learning-rate schedule, early stopping, and calibration on the validation samples."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from make_us_rich.forecasting.architectures import architecture
from make_us_rich.forecasting.networks import Loss, Network
from make_us_rich.forecasting.process_group import ProcessGroup
from make_us_rich.forecasting.samples import Samples, concatenate
from make_us_rich.forecasting.training_config import TrainingConfig

_PATIENCE = 3  # epochs without a better validation loss, then training stops
_WARM_UP_STEPS = 50
_MAX_GRADIENT_NORM = 1.0

LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]

SINGLE_PROCESS = ProcessGroup()


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network.

    curves: train_loss and validation_loss of each epoch; quantile networks measure returns divided by volatility.
    start: what training began from, "nothing" (random weights) or "weights" (those of another model).
    """

    network: Network
    curves: list[dict[str, float]]
    start: str = "nothing"


class Trainable(Protocol):
    """What the training loop needs of a network, or of many networks batched into one."""

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def train(self) -> object: ...
    def eval(self) -> object: ...
    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor: ...
    def clip_gradients(self, max_norm: float) -> None: ...


def train(
    samples: Samples,
    validation: Samples,
    config: TrainingConfig,
    on_step: Callable[[str], None] = lambda step: None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> TrainedNetwork:
    """Train a new network from scratch; keep the epoch with the best validation loss, and calibrate it."""
    on_step("scale")
    network = _new_network(samples, config)
    on_step("train")
    best, best_loss, since_best, curves = copy.deepcopy(network.state_dict()), math.inf, 0, []
    for losses in _train_epochs(network, samples, validation, config, group):
        curves.append(losses)
        since_best += 1
        if losses["validation_loss"] < best_loss:
            best, best_loss, since_best = copy.deepcopy(network.state_dict()), losses["validation_loss"], 0
        if since_best >= _PATIENCE:
            break
    network.load_state_dict(best)
    network.calibrate(validation)
    return TrainedNetwork(network, curves)


def train_foundation(
    samples: Samples, validation: Samples, config: TrainingConfig, group: ProcessGroup = SINGLE_PROCESS
) -> TrainedNetwork:
    """Train one network on the samples of many pairs, which include the validation samples.

    The number of epochs is fixed, so that the newest weeks are trained on rather than reserved for early stopping:
    they matter most after the market has changed. The validation losses are therefore in-sample.
    """
    network = _new_network(samples, config)
    curves = list(_train_epochs(network, samples, validation, config, group))
    network.calibrate(validation)
    return TrainedNetwork(network, curves)


def fine_tune(
    start: Network,
    samples: Samples,
    validation: Samples,
    config: TrainingConfig,
    on_step: Callable[[str], None] = lambda step: None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> TrainedNetwork:
    """Fine-tune a network of many pairs, or an earlier one of this pair, on all samples, validation included."""
    on_step("scale")
    everything = concatenate([samples, validation])
    network = copy_for_pair(start, everything, config)
    on_step("train")
    curves = list(_train_epochs(network, everything, validation, fine_tuning(config), group))
    network.calibrate(everything[-config.calibration :])
    return TrainedNetwork(network, curves, "weights")


def copy_for_pair(start: Network, samples: Samples, config: TrainingConfig) -> Network:
    """Copy a network to the samples' device and adapt its scaling to their pair."""
    network = copy.deepcopy(start).to(samples.target.device)
    network.adapt_to_pair(samples[-config.level :])
    return network


def fine_tuning(config: TrainingConfig) -> TrainingConfig:
    """Return the config with the epochs and learning rate of fine-tuning."""
    return replace(config, epochs=config.fine_tune_epochs, learning_rate=config.fine_tune_learning_rate)


def train_epochs(
    network: Trainable,
    loss_function: LossFunction,
    samples: Samples,
    validation: Samples,
    config: TrainingConfig,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Iterator[dict[str, Tensor]]:
    """Train epoch by epoch and yield the losses of each; the network is left in evaluation mode."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_up_then_linear_decay(len(samples), config))
    shuffle = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed + group.rank)  # for dropout
    for _ in range(config.epochs):
        network.train()
        # of batched networks, one total for each
        total = torch.zeros((), dtype=torch.float64, device=samples.target.device)
        for batch in torch.split(torch.randperm(len(samples), generator=shuffle), config.batch):
            shard = group.shard(batch)
            loss = loss_function(samples.sequence[shard], samples.static[shard], samples.target[shard])
            optimiser.zero_grad()
            (group.loss_weight(batch) * loss.sum()).backward()  # type: ignore[no-untyped-call]
            network.clip_gradients(_MAX_GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            total = total + loss.detach().double() * len(batch)
        network.eval()
        yield {"train_loss": total / len(samples), "validation_loss": _mean_loss(network, validation)}


def _train_epochs(
    network: Network, samples: Samples, validation: Samples, config: TrainingConfig, group: ProcessGroup
) -> Iterator[dict[str, float]]:
    loss_function = group.data_parallel(Loss(network))
    for losses in train_epochs(network, loss_function, samples, validation, config, group):
        yield {name: float(loss) for name, loss in losses.items()}


def _new_network(samples: Samples, config: TrainingConfig) -> Network:
    torch.manual_seed(config.seed)
    network = architecture(config.architecture).build(config.hidden, config.length).to(samples.target.device)
    network.fit_scaling(samples)
    return network


def _mean_loss(network: Trainable, samples: Samples) -> Tensor:
    with torch.no_grad():
        losses = [
            network.loss(part.sequence, part.static, part.target) * (len(part) / len(samples))
            for part in samples.chunks()
        ]
    return torch.stack(losses).sum(dim=0)


def _warm_up_then_linear_decay(count: int, config: TrainingConfig) -> Callable[[int], float]:
    """Return the learning-rate schedule for `count` samples: linear warm-up, then linear decay to zero."""
    steps = config.epochs * math.ceil(count / config.batch)
    return lambda step: min(1.0, (step + 1) / _WARM_UP_STEPS) * max(0.0, 1 - step / steps)
