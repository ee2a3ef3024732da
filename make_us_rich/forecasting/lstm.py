"""The quantile LSTM: small, and most of what it knows about size comes from the volatility model below it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from make_us_rich.forecasting.contract import QUANTILE_LEVELS
from make_us_rich.forecasting.features import SEQUENCE_FEATURES, STATIC_FEATURES
from make_us_rich.forecasting.volatility import VolatilityFit


class QuantileLstm(nn.Module):
    """Quantiles of the next log return. Scaling and calibration are buffers, so they travel with the weights."""

    mean: Tensor
    deviation: Tensor
    weights: Tensor
    intercept: Tensor
    sequence_mean: Tensor
    sequence_deviation: Tensor
    calibration: Tensor

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(SEQUENCE_FEATURES, hidden, batch_first=True)
        self.head = nn.Linear(hidden + STATIC_FEATURES, len(QUANTILE_LEVELS))
        for name, size in (
            ("mean", STATIC_FEATURES),
            ("deviation", STATIC_FEATURES),
            ("weights", STATIC_FEATURES),
            ("sequence_mean", SEQUENCE_FEATURES),
            ("sequence_deviation", SEQUENCE_FEATURES),
            ("calibration", len(QUANTILE_LEVELS)),
        ):
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("intercept", torch.zeros(()))

    def start_from(self, scale: VolatilityFit, sequence: Tensor, static: Tensor, target: Tensor) -> None:
        """Take the training rows' scaling, and begin as the constant quantiles of their standardised returns."""
        self.mean, self.deviation = scale.mean, scale.deviation
        self.weights, self.intercept = scale.weights, scale.intercept
        self.sequence_mean = sequence.mean(dim=(0, 1))
        self.sequence_deviation = sequence.std(dim=(0, 1)).clamp_min(1e-6)
        z = target / self.scale(static)[:, 0]
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.copy_(torch.quantile(z, torch.tensor(QUANTILE_LEVELS)))

    def scale(self, static: Tensor) -> Tensor:
        """sigma of the next log return, [n, 1]."""
        standardised = (static - self.mean) / self.deviation
        log_variance = self.intercept + (standardised * self.weights).sum(dim=-1, keepdim=True)
        return (0.5 * log_variance).exp()

    def standardised(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Quantiles of the return over sigma, [n, 7], before calibration; they may still cross."""
        steps = (sequence - self.sequence_mean) / self.sequence_deviation
        _, (state, _) = self.recurrent(steps)
        known = ((static - self.mean) / self.deviation).clamp(-5, 5)
        quantiles: Tensor = self.head(torch.cat([state[-1], known], dim=-1))
        return quantiles

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Quantiles of the next log return, [n, 7], ascending."""
        quantiles = self.standardised(sequence, static) + self.calibration
        ordered, _ = torch.sort(quantiles, dim=-1)
        return ordered * self.scale(static)
