"""Fit one network: its loss, early stopping and calibration on the validation tail."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from make_us_rich.forecasting.architectures import architecture
from make_us_rich.forecasting.networks import Network
from make_us_rich.forecasting.recipe import Recipe
from make_us_rich.forecasting.rows import Rows

_PATIENCE = 3
_RISE = 50  # steps
_MOST_GRADIENT = 1.0  # gradients are cut at this norm


@dataclass(frozen=True, eq=False)
class Trained:
    """curves: a row an epoch, train_loss and validation_loss; of returns over volatility for quantile networks."""

    network: Network
    curves: list[dict[str, float]]


def train(rows: Rows, validation: Rows, recipe: Recipe) -> Trained:
    """From nothing: the best network by validation loss, calibrated."""
    torch.manual_seed(recipe.seed)
    network = architecture(recipe.architecture).build(recipe.hidden, recipe.length).to(rows.target.device)
    network.start_from(rows)
    return _descend(network, rows, validation, recipe)


def fine_tune(start: Network, rows: Rows, validation: Rows, recipe: Recipe) -> Trained:
    """From a network that was trained on many pairs, or on this one before."""
    network = copy.deepcopy(start).to(rows.target.device)
    network.adopt(rows)
    brief = replace(recipe, epochs=recipe.fine_tune_epochs, learning_rate=recipe.fine_tune_learning_rate)
    return _descend(network, rows, validation, brief)


def _descend(network: Network, rows: Rows, validation: Rows, recipe: Recipe) -> Trained:
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _rise_and_fall(len(rows), recipe))
    shuffle = torch.Generator().manual_seed(recipe.seed)
    best, best_loss, curves = copy.deepcopy(network.state_dict()), math.inf, []
    since_best = 0
    torch.manual_seed(recipe.seed)  # of dropout
    for _ in range(recipe.epochs):
        network.train()
        loss = _epoch(network, optimiser, schedule, rows, recipe.batch, shuffle)
        network.eval()
        with torch.no_grad():
            validation_loss = float(network.loss(validation.sequence, validation.static, validation.target))
        curves.append({"train_loss": loss, "validation_loss": validation_loss})
        since_best += 1
        if validation_loss < best_loss:
            best, best_loss, since_best = copy.deepcopy(network.state_dict()), validation_loss, 0
        if since_best >= _PATIENCE:
            break
    network.load_state_dict(best)
    network.calibrate(validation)
    return Trained(network, curves)


def _rise_and_fall(rows: int, recipe: Recipe) -> Callable[[int], float]:
    """Of the learning rate: up within a few steps, then down to nothing in a line."""
    steps = recipe.epochs * math.ceil(rows / recipe.batch)
    return lambda step: min(1.0, (step + 1) / _RISE) * max(0.0, 1 - step / steps)


def _epoch(
    network: Network,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    rows: Rows,
    batch: int,
    shuffle: torch.Generator,
) -> float:
    total = 0.0
    for chosen in torch.split(torch.randperm(len(rows), generator=shuffle), batch):
        loss = network.loss(rows.sequence[chosen], rows.static[chosen], rows.target[chosen])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), _MOST_GRADIENT)
        optimiser.step()
        schedule.step()
        total += float(loss.detach()) * len(chosen)
    return total / len(rows)
