"""Fit one network: its loss, early stopping and calibration on the validation tail."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from make_us_rich.forecasting.architectures import architecture
from make_us_rich.forecasting.networks import Network
from make_us_rich.forecasting.recipe import Recipe
from make_us_rich.forecasting.rows import Rows, joined
from make_us_rich.forecasting.team import Team

_PATIENCE = 3
_RISE = 50  # steps
_MOST_GRADIENT = 1.0  # gradients are cut at this norm


@dataclass(frozen=True, eq=False)
class Trained:
    """curves: a row an epoch, train_loss and validation_loss; of returns over volatility for quantile networks."""

    network: Network
    curves: list[dict[str, float]]


ALONE = Team()


def train(
    rows: Rows,
    validation: Rows,
    recipe: Recipe,
    on_step: Callable[[str], None] = lambda step: None,
    team: Team = ALONE,
) -> Trained:
    """From nothing on `rows`: the best epoch's network by validation loss, calibrated."""
    on_step("scale")
    network = _fresh(rows, recipe)
    on_step("train")
    best, best_loss, since_best, curves = copy.deepcopy(network.state_dict()), math.inf, 0, []
    for losses in _epochs(network, rows, validation, recipe, team):
        curves.append(losses)
        since_best += 1
        if losses["validation_loss"] < best_loss:
            best, best_loss, since_best = copy.deepcopy(network.state_dict()), losses["validation_loss"], 0
        if since_best >= _PATIENCE:
            break
    network.load_state_dict(best)
    network.calibrate(validation)
    return Trained(network, curves)


def train_shared(rows: Rows, validation: Rows, recipe: Recipe, team: Team = ALONE) -> Trained:
    """One network of the rows of many pairs, validation rows as well.

    The number of epochs is fixed, so that the newest weeks can be learned from instead of saying when to stop: after a
    change of the market they matter most. Validation losses are then of rows that were trained on.
    """
    everything = joined([rows, validation])
    network = _fresh(everything, recipe)
    curves = list(_epochs(network, everything, validation, recipe, team))
    network.calibrate(validation)
    return Trained(network, curves)


def fine_tune(
    start: Network,
    rows: Rows,
    validation: Rows,
    recipe: Recipe,
    on_step: Callable[[str], None] = lambda step: None,
    team: Team = ALONE,
) -> Trained:
    """From a network that was trained on many pairs, or on this one before; on all rows, as train_shared does."""
    on_step("scale")
    everything = joined([rows, validation])
    network = copy.deepcopy(start).to(rows.target.device)
    network.adopt(everything[-recipe.level :])
    on_step("train")
    brief = replace(recipe, epochs=recipe.fine_tune_epochs, learning_rate=recipe.fine_tune_learning_rate)
    curves = list(_epochs(network, everything, validation, brief, team))
    network.calibrate(everything[-recipe.calibration :])
    return Trained(network, curves)


def _fresh(rows: Rows, recipe: Recipe) -> Network:
    torch.manual_seed(recipe.seed)
    network = architecture(recipe.architecture).build(recipe.hidden, recipe.length).to(rows.target.device)
    network.start_from(rows)
    return network


def _epochs(
    network: Network, rows: Rows, validation: Rows, recipe: Recipe, team: Team
) -> Iterator[dict[str, float]]:
    """Train epoch by epoch, and tell the losses of each; the network is left ready to forecast."""
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _rise_and_fall(len(rows), recipe))
    shuffle = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed + team.rank)  # of dropout
    for _ in range(recipe.epochs):
        network.train()
        loss = _epoch(network, optimiser, schedule, rows, recipe.batch, shuffle, team)
        network.eval()
        with torch.no_grad():
            validation_loss = float(network.loss(validation.sequence, validation.static, validation.target))
        yield {"train_loss": loss, "validation_loss": validation_loss}


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
    team: Team,
) -> float:
    total = 0.0
    for together in torch.split(torch.randperm(len(rows), generator=shuffle), batch):
        chosen = team.part(together)
        loss = network.loss(rows.sequence[chosen], rows.static[chosen], rows.target[chosen])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        team.average_gradients(network, together)
        torch.nn.utils.clip_grad_norm_(network.parameters(), _MOST_GRADIENT)
        optimiser.step()
        schedule.step()
        total += float(loss.detach()) * len(together)
    return total / len(rows)
