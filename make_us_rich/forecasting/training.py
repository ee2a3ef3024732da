"""Fit one network: its loss, early stopping and calibration on the validation tail."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from make_us_rich.forecasting.architectures import architecture
from make_us_rich.forecasting.batched import BatchedNetworks
from make_us_rich.forecasting.networks import Loss, Network
from make_us_rich.forecasting.process_group import ProcessGroup
from make_us_rich.forecasting.samples import Samples, joined
from make_us_rich.forecasting.training_config import TrainingConfig

_PATIENCE = 3
_RISE = 50  # steps
_MOST_GRADIENT = 1.0  # gradients are cut at this norm


@dataclass(frozen=True, eq=False)
class Trained:
    """curves: a row an epoch, train_loss and validation_loss; of returns over volatility for quantile networks.

    start: what training began from, "nothing" or "weights".
    """

    network: Network
    curves: list[dict[str, float]]
    start: str = "nothing"


ALONE = ProcessGroup()


def train(
    rows: Samples,
    validation: Samples,
    config: TrainingConfig,
    on_step: Callable[[str], None] = lambda step: None,
    group: ProcessGroup = ALONE,
) -> Trained:
    """From nothing on `rows`: the best epoch's network by validation loss, calibrated."""
    on_step("scale")
    network = _fresh(rows, config)
    on_step("train")
    best, best_loss, since_best, curves = copy.deepcopy(network.state_dict()), math.inf, 0, []
    for losses in map(_numbers, _epochs(network, rows, validation, config, group)):
        curves.append(losses)
        since_best += 1
        if losses["validation_loss"] < best_loss:
            best, best_loss, since_best = copy.deepcopy(network.state_dict()), losses["validation_loss"], 0
        if since_best >= _PATIENCE:
            break
    network.load_state_dict(best)
    network.calibrate(validation)
    return Trained(network, curves)


def train_shared(rows: Samples, validation: Samples, config: TrainingConfig, group: ProcessGroup = ALONE) -> Trained:
    """One network of the rows of many pairs, which hold the validation rows too.

    The number of epochs is fixed, so that the newest weeks can be learned from instead of saying when to stop: after a
    change of the market they matter most. Validation losses are then of rows that were trained on.
    """
    network = _fresh(rows, config)
    curves = [_numbers(losses) for losses in _epochs(network, rows, validation, config, group)]
    network.calibrate(validation)
    return Trained(network, curves)


def fine_tune(
    start: Network,
    rows: Samples,
    validation: Samples,
    config: TrainingConfig,
    on_step: Callable[[str], None] = lambda step: None,
    group: ProcessGroup = ALONE,
) -> Trained:
    """From a network that was trained on many pairs, or on this one before; on all rows, as train_shared does."""
    on_step("scale")
    everything = joined([rows, validation])
    network = _adopted(start, everything, config)
    on_step("train")
    curves = [_numbers(losses) for losses in _epochs(network, everything, validation, _brief(config), group)]
    network.calibrate(everything[-config.calibration :])
    return Trained(network, curves, "weights")


def fine_tune_together(
    start: Network, rows: Sequence[Samples], validation: Sequence[Samples], config: TrainingConfig
) -> list[Trained]:
    """What fine_tune does for each of many pairs, all at once; only dropout's dice fall differently.

    Every pair must have as many rows as the others, of both kinds.
    """
    everything = [joined([old, new]) for old, new in zip(rows, validation, strict=True)]
    stack = BatchedNetworks([_adopted(start, own, config) for own in everything])
    epochs = list(_epochs(stack, _beside(everything), _beside(validation), _brief(config), ALONE))
    trained = []
    for index, (network, own) in enumerate(zip(stack.unstack(), everything, strict=True)):
        network.calibrate(own[-config.calibration :])
        curves = [_numbers({name: loss[index] for name, loss in losses.items()}) for losses in epochs]
        trained.append(Trained(network, curves, "weights"))
    return trained


def _adopted(start: Network, rows: Samples, config: TrainingConfig) -> Network:
    network = copy.deepcopy(start).to(rows.target.device)
    network.adapt_to_pair(rows[-config.level :])
    return network


def _brief(config: TrainingConfig) -> TrainingConfig:
    return replace(config, epochs=config.fine_tune_epochs, learning_rate=config.fine_tune_learning_rate)


def _beside(pairs: Sequence[Samples]) -> Samples:
    """The pairs' rows in a second dimension, so that one index is that row of each."""
    return Samples(
        torch.stack([rows.sequence for rows in pairs], dim=1),
        torch.stack([rows.static for rows in pairs], dim=1),
        torch.stack([rows.target for rows in pairs], dim=1),
        np.stack([rows.target_open_ms for rows in pairs], axis=1),
    )


def _numbers(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(loss) for name, loss in losses.items()}


def _fresh(rows: Samples, config: TrainingConfig) -> Network:
    torch.manual_seed(config.seed)
    network = architecture(config.architecture).build(config.hidden, config.length).to(rows.target.device)
    network.fit_scaling(rows)
    return network


def _epochs(
    network: Network | BatchedNetworks, rows: Samples, validation: Samples, config: TrainingConfig, group: ProcessGroup
) -> Iterator[dict[str, Tensor]]:
    """Train epoch by epoch, and tell the losses of each; the network is left ready to forecast."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _rise_and_fall(len(rows), config))
    shuffle = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed + group.rank)  # of dropout
    loss_of = network.loss if isinstance(network, BatchedNetworks) else group.data_parallel(Loss(network))
    for _ in range(config.epochs):
        network.train()
        loss = _epoch(network, loss_of, optimiser, schedule, rows, config.batch, shuffle, group)
        network.eval()
        yield {"train_loss": loss, "validation_loss": _loss(network, validation)}


def _loss(network: Network | BatchedNetworks, rows: Samples) -> Tensor:
    with torch.no_grad():
        losses = [
            network.loss(part.sequence, part.static, part.target) * (len(part) / len(rows)) for part in rows.pieces()
        ]
    return torch.stack(losses).sum(dim=0)


def _rise_and_fall(rows: int, config: TrainingConfig) -> Callable[[int], float]:
    """Of the learning rate: up within a few steps, then down to nothing in a line."""
    steps = config.epochs * math.ceil(rows / config.batch)
    return lambda step: min(1.0, (step + 1) / _RISE) * max(0.0, 1 - step / steps)


def _epoch(
    network: Network | BatchedNetworks,
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    rows: Samples,
    batch: int,
    shuffle: torch.Generator,
    group: ProcessGroup,
) -> Tensor:
    """The mean loss; of a stack, each network's."""
    total = torch.zeros((), dtype=torch.float64, device=rows.target.device)
    for together in torch.split(torch.randperm(len(rows), generator=shuffle), batch):
        chosen = group.shard(together)
        loss = loss_of(rows.sequence[chosen], rows.static[chosen], rows.target[chosen])
        optimiser.zero_grad()
        (group.loss_weight(together) * loss.sum()).backward()  # type: ignore[no-untyped-call]
        network.cut_gradients(_MOST_GRADIENT)
        optimiser.step()
        schedule.step()
        total = total + loss.detach().double() * len(together)
    return total / len(rows)
