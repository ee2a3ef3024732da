"""Fit one network: pinball loss, early stopping and calibration on the validation tail."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from make_us_rich.forecasting.contract import QUANTILE_LEVELS
from make_us_rich.forecasting.lstm import QuantileLstm
from make_us_rich.forecasting.volatility import fit_volatility
from make_us_rich.forecasting.windows import Rows

_PATIENCE = 3
_MOST_GRADIENT = 1.0  # gradients are cut at this norm


@dataclass(frozen=True)
class Recipe:
    """How to train. Lengths are in candles."""

    architecture: str = "lstm"
    length: int = 24
    hidden: int = 64
    epochs: int = 12
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    validation: int = 672
    holdout: int = 672
    max_bridged: int = 3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Trained:
    network: QuantileLstm
    curves: list[dict[str, float]]


def pinball_loss(quantiles: Tensor, target: Tensor) -> Tensor:
    """Mean over rows and levels. quantiles: [n, 7]; target: [n]."""
    levels = torch.tensor(QUANTILE_LEVELS, dtype=quantiles.dtype, device=quantiles.device)
    error = target.unsqueeze(-1) - quantiles
    return torch.maximum(levels * error, (levels - 1) * error).mean()


def train(rows: Rows, validation: Rows, recipe: Recipe, start: QuantileLstm | None = None) -> Trained:
    """The best network by validation loss, calibrated. `start` continues from other weights and their scaling."""
    torch.manual_seed(recipe.seed)
    network = copy.deepcopy(start) if start is not None else _fresh(rows, recipe)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    z = (rows.target / network.scale(rows.static)[:, 0]).detach()
    z_validation = (validation.target / network.scale(validation.static)[:, 0]).detach()
    shuffle = torch.Generator().manual_seed(recipe.seed)
    best, best_loss, curves = copy.deepcopy(network.state_dict()), float("inf"), []
    since_best = 0
    for _ in range(recipe.epochs):
        loss = _epoch(network, optimiser, rows, z, recipe.batch, shuffle)
        with torch.no_grad():
            quantiles = network.standardised(validation.sequence, validation.static)
            validation_loss = float(pinball_loss(quantiles, z_validation))
        curves.append({"train_pinball": loss, "validation_pinball": validation_loss})
        since_best += 1
        if validation_loss < best_loss:
            best, best_loss, since_best = copy.deepcopy(network.state_dict()), validation_loss, 0
        if since_best >= _PATIENCE:
            break
    network.load_state_dict(best)
    _calibrate(network, validation, z_validation)
    return Trained(network.eval(), curves)


def _fresh(rows: Rows, recipe: Recipe) -> QuantileLstm:
    network = QuantileLstm(recipe.hidden)
    network.start_from(fit_volatility(rows.static, rows.target), rows.sequence, rows.static, rows.target)
    return network


def _epoch(
    network: QuantileLstm,
    optimiser: torch.optim.Optimizer,
    rows: Rows,
    z: Tensor,
    batch: int,
    shuffle: torch.Generator,
) -> float:
    total = 0.0
    for chosen in torch.split(torch.randperm(len(rows), generator=shuffle), batch):
        loss = pinball_loss(network.standardised(rows.sequence[chosen], rows.static[chosen]), z[chosen])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), _MOST_GRADIENT)
        optimiser.step()
        total += float(loss.detach()) * len(chosen)
    return total / len(rows)


def _calibrate(network: QuantileLstm, validation: Rows, z: Tensor) -> None:
    """Shift each quantile so that it would have held its level on the validation tail, half the way.

    Conformal calibration per quantile (Romano, Patterson and Candes 2019), shrunk because a few weeks say only so much.
    """
    with torch.no_grad():
        quantiles = network.standardised(validation.sequence, validation.static)
        misses = z.unsqueeze(-1) - quantiles
        shifts = [torch.quantile(misses[:, index], level) for index, level in enumerate(QUANTILE_LEVELS)]
        network.calibration = 0.5 * torch.stack(shifts)
