"""Quantile networks on top of a log-HAR volatility model, which predicts most of the scale of the next returns.

Each horizon has its own regression of volatility on ranges (Corsi 2009, Parkinson 1980).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from make_us_rich.core.distribution import DEFAULT_TAIL
from make_us_rich.documents import HORIZON_GRID, HORIZONS, QUANTILE_LEVELS
from make_us_rich.forecasting.features import FeatureLayout
from make_us_rich.forecasting.samples import Samples

_RIDGE = 1e-2  # of the volatility regressions
_DROPOUT = 0.4
_CLIP = 5.0  # of standardised features
_CONSTANT = 1e-4  # a feature that deviates less is constant but for rounding
# The log variance may leave its range on the training samples by a factor of two: the regression must not extrapolate
# an extreme wick.
_LOG_VARIANCE_MARGIN = math.log(2)
# Calibration shifts are halved: the past weeks predict the coverage of the next ones only in part. So is the level of
# volatility of a pair at the later horizons, whose samples overlap.
_SHRINKAGE = 0.5
_FEWEST_EXCESSES = 20
_HEAVIEST_TAIL = 0.4  # the variance is infinite from 0.5 on
_GRID = torch.tensor(HORIZON_GRID) - 1  # columns of Samples.target
_LEVELS = torch.tensor(QUANTILE_LEVELS)
_MEDIAN = QUANTILE_LEVELS.index(0.5)


class Network(nn.Module):
    """The interface that training and export use. All scaling is held in buffers, so it is saved with the weights.

    The names of parameters and buffers are part of the stored format (weights.npz): never rename them.
    """

    def fit_scaling(self, samples: Samples) -> None:
        """Fit all scaling on the training samples."""
        raise NotImplementedError

    def adapt_to_pair(self, samples: Samples) -> None:
        """Adapt the scaling of a network that was trained on many pairs to one pair's newest training samples."""
        raise NotImplementedError

    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        """Return the mean training loss of a batch."""
        raise NotImplementedError

    def calibrate(self, samples: Samples) -> None:
        """Adjust the quantiles to their levels on these samples."""
        raise NotImplementedError

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Return the quantiles of the next log returns, [n, horizons, 7], ascending; later ones are never narrower."""
        raise NotImplementedError

    def tails(self) -> Tensor:
        """Return scale and shape of the tails at each horizon, [horizons, 2]: see core/distribution.py."""
        raise NotImplementedError


class Loss(nn.Module):
    """Computes a network's loss in `forward`, as DistributedDataParallel requires."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        return self.network.loss(sequence, static, target)


def pinball_loss(quantiles: Tensor, target: Tensor) -> Tensor:
    """Return the pinball loss, the mean over samples and levels, [grid]. quantiles: [n, grid, 7]; target: [n, grid]."""
    levels = _LEVELS.to(quantiles)
    error = target.unsqueeze(-1) - quantiles
    return torch.maximum(levels * error, (levels - 1) * error).mean(dim=(0, 2))


class ScaledQuantiles(Network):
    """Forecasts quantiles of the returns divided by their HAR volatility, at the horizons of HORIZON_GRID.

    Next close: a body reads the sequence. A linear head reads the body's state and the static features, and moves each
    quantile away from its constant. Later closes have few independent samples, and a free head memorises them: its loss
    was 16 % higher at 24 hours. They get a trained share of the next close's movement, and a factor on their constant
    quantiles that is linear in the body's state and the HAR features. Their loss trains only the share and the factor.
    """

    mean: Tensor  # of the static features, and so on
    deviation: Tensor
    weights: Tensor  # of the volatility regressions, [grid, features]; 0 for a feature that a horizon does not use
    intercept: Tensor  # [grid]
    calmest: Tensor  # lowest and highest log variance of the training samples, without the intercept, [grid]
    wildest: Tensor
    sequence_mean: Tensor
    sequence_deviation: Tensor
    typical: Tensor  # median absolute standardised return of the training samples, [grid]
    constant: Tensor  # quantiles of the standardised returns of the training samples, [grid, 7]
    calibration: Tensor  # shift of each quantile, [grid, 7]
    tail: Tensor  # scale and shape, [grid, 2]

    def __init__(self, layout: FeatureLayout, body: nn.Module, width: int) -> None:
        super().__init__()
        grid, levels = len(HORIZON_GRID), len(QUANTILE_LEVELS)
        self.layout = layout
        self.body = body
        self.head = nn.Linear(width + len(layout.next_close), levels)
        self.share = nn.Parameter(torch.tensor(HORIZON_GRID[1:]) ** -0.5)
        self.widening = nn.Linear(width + len(layout.har), grid - 1)
        for name, shape in (
            ("mean", (layout.static_size,)),
            ("deviation", (layout.static_size,)),
            ("weights", (grid, layout.static_size)),
            ("intercept", (grid,)),
            ("calmest", (grid,)),
            ("wildest", (grid,)),
            ("sequence_mean", (layout.sequence_size,)),
            ("sequence_deviation", (layout.sequence_size,)),
            ("typical", (grid,)),
            ("constant", (grid, levels)),
            ("calibration", (grid, levels)),
        ):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("tail", torch.tensor([DEFAULT_TAIL] * grid))

    def fit_scaling(self, samples: Samples) -> None:
        """Fit scaling and volatility, and initialise the quantiles to those of the standardised returns."""
        static = samples.static.double()
        self.mean = static.mean(dim=0).float()
        self.deviation = _without_constants(static.std(dim=0)).float()
        target, known = samples.target[:, _GRID], self._standardise(samples.static)
        for index, horizon in enumerate(HORIZON_GRID):
            chosen = self.layout.next_close if index == 0 else [*self.layout.har, *self.layout.profile_until(horizon)]
            self.weights[index] = _fit_log_variance(known, samples.realised[:, horizon - 1], chosen)
        log_variance = self._log_variance(samples.static)
        self.calmest, self.wildest = log_variance.amin(dim=0), log_variance.amax(dim=0)
        # 10 of the deviations that the regressions alone would give: an extreme wick must not set the level
        z = target / (0.5 * log_variance).exp()
        limit = 10 * z.std(dim=0)
        self.intercept = z.clamp(-limit, limit).square().mean(dim=0).log()
        self.sequence_mean = samples.sequence.mean(dim=(0, 1))
        self.sequence_deviation = _without_constants(samples.sequence.std(dim=(0, 1)))
        z = target / self.scale(samples.static)
        self.typical = z.abs().median(dim=0).values
        self.constant = column_quantiles(z)
        with torch.no_grad():
            for parameter in (self.head.weight, self.head.bias, self.widening.weight, self.widening.bias):
                parameter.zero_()

    def adapt_to_pair(self, samples: Samples) -> None:
        """Keep the shared scaling; adapt only the level of volatility to the pair."""
        own = (samples.target[:, _GRID] / self.scale(samples.static)).abs().median(dim=0).values
        change = 2 * (own / self.typical).log()
        change[1:] *= _SHRINKAGE
        self.intercept = self.intercept + change
        self.calibration = torch.zeros_like(self.calibration)

    def scale(self, static: Tensor) -> Tensor:
        """Return the standard deviation of the log return at each horizon of the grid, [n, grid]."""
        log_variance = self._log_variance(static).clamp(
            self.calmest - _LOG_VARIANCE_MARGIN, self.wildest + _LOG_VARIANCE_MARGIN
        )
        return (0.5 * (self.intercept + log_variance)).exp()

    def _log_variance(self, static: Tensor) -> Tensor:
        """Return the regressions' log variance without their intercepts, [n, grid]."""
        return self._standardise(static) @ self.weights.T

    def _standardise(self, static: Tensor) -> Tensor:
        return ((static - self.mean) / self.deviation).clamp(-_CLIP, _CLIP)

    def standardised_quantiles(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Return quantiles of the returns divided by their scales, [n, grid, 7], uncalibrated; they may cross."""
        state = self.body((sequence - self.sequence_mean) / self.sequence_deviation)
        state = dropout(state, _DROPOUT, self.training)
        known = dropout(self._standardise(static), _DROPOUT / 2, self.training)
        movement = self.head(torch.cat([state, known[:, self.layout.next_close]], dim=-1)).unsqueeze(1)
        factor = 1 + self.widening(torch.cat([state.detach(), known[:, self.layout.har]], dim=-1)).unsqueeze(-1)
        later = factor * self.constant[1:] + self.share.unsqueeze(-1) * movement.detach()
        return torch.cat([self.constant[:1] + movement, later], dim=1)

    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        quantiles = self.standardised_quantiles(sequence, static)
        return pinball_loss(quantiles, target[:, _GRID] / self.scale(static)).sum()

    def calibrate(self, samples: Samples) -> None:
        """Shift each quantile half the way to where it would have held its level on these samples, and fit the tails.

        Conformal calibration per quantile (Romano, Patterson and Candes 2019), shrunk.
        """
        with torch.no_grad():
            z = samples.target[:, _GRID] / self.scale(samples.static)
            parts = [self.standardised_quantiles(part.sequence, part.static) for part in samples.chunks()]
            quantiles = torch.cat(parts)
            errors = z.unsqueeze(-1) - quantiles
            shifts = [torch.quantile(errors[..., index], level, dim=0) for index, level in enumerate(QUANTILE_LEVELS)]
            self.calibration = _SHRINKAGE * torch.stack(shifts, dim=-1)
            self.tail = fit_tails(z, (quantiles + self.calibration).sort(dim=-1).values)

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        quantiles = self.standardised_quantiles(sequence, static) + self.calibration
        ordered, _ = torch.sort(quantiles, dim=-1)
        return _INTERPOLATION.to(ordered) @ _ever_wider(ordered * self.scale(static).unsqueeze(-1))

    def tails(self) -> Tensor:
        return _INTERPOLATION @ self.tail.cpu()


def lstm(layout: FeatureLayout, hidden: int, length: int) -> ScaledQuantiles:
    return ScaledQuantiles(layout, _Recurrent(nn.LSTM, layout.sequence_size, hidden), hidden)


def gru(layout: FeatureLayout, hidden: int, length: int) -> ScaledQuantiles:
    return ScaledQuantiles(layout, _Recurrent(nn.GRU, layout.sequence_size, hidden), hidden)


def linear(layout: FeatureLayout, hidden: int, length: int) -> ScaledQuantiles:
    """Build a HAR quantile regression: the linear head without a body."""
    return ScaledQuantiles(layout, _EmptyBody(), 0)


def patchtst(layout: FeatureLayout, hidden: int, length: int) -> ScaledQuantiles:
    """Build a small transformer over patches of candles (after Nie et al. 2023, channels mixed)."""
    return ScaledQuantiles(layout, _PatchTransformer(layout.sequence_size, hidden, length), hidden)


class _EmptyBody(nn.Module):
    def forward(self, steps: Tensor) -> Tensor:
        return steps[:, -1, :0]


class _Recurrent(nn.Module):
    """Returns the last hidden state of one recurrent layer."""

    def __init__(self, kind: Callable[..., nn.Module], features: int, hidden: int) -> None:
        super().__init__()
        self.layer = kind(features, hidden, batch_first=True)

    def forward(self, steps: Tensor) -> Tensor:
        states: Tensor = self.layer(steps)[0]
        return states[:, -1]


class _PatchTransformer(nn.Module):
    _PATCH = 4
    _HEADS = 4

    def __init__(self, features: int, hidden: int, length: int) -> None:
        super().__init__()
        self.embed = nn.Linear(self._PATCH * features, hidden)
        self.position = nn.Parameter(torch.randn(length // self._PATCH, hidden) / math.sqrt(hidden))
        self.before_attention, self.before_mixing = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.mixing = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden))

    def forward(self, steps: Tensor) -> Tensor:
        count, hidden = self.position.shape
        newest = steps[:, steps.shape[1] - count * self._PATCH :]
        x = self.embed(newest.reshape(-1, count, self.embed.in_features)) + self.position
        heads = self.queries_keys_values(self.before_attention(x)).reshape(
            -1, count, 3, self._HEADS, hidden // self._HEADS
        )
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        attended = scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).reshape(-1, count, hidden))
        x = x + self.mixing(self.before_mixing(x))
        pooled: Tensor = x.mean(dim=1)
        return pooled


def _fit_log_variance(known: Tensor, realised: Tensor, chosen: list[int]) -> Tensor:
    """Fit ln(realised^2) on the chosen columns of `known` by ridge regression; return the weights of all columns.

    known: [n, features], standardised; realised: [n], the volatility by ranges, which has less noise than one return.
    The logarithm gives calm and volatile hours the same weight.
    """
    x = known[:, chosen].double()
    x = x - x.mean(dim=0)
    # a floor of a hundredth of the typical size, because the logarithm of 0 is infinite
    size = realised.double().abs()
    y = 2 * size.clamp_min(1e-2 * size.median().clamp_min(1e-7)).log()
    gram = x.T @ x / len(x) + _RIDGE * torch.eye(x.shape[1], dtype=torch.float64, device=x.device)
    weights = torch.zeros(known.shape[1], device=known.device)
    weights[chosen] = torch.linalg.solve(gram, x.T @ (y - y.mean()) / len(x)).float()
    return weights


def fit_tails(values: Tensor, quantiles: Tensor) -> Tensor:
    """Fit the tails beyond the outer quantiles by the method of moments (Hosking and Wallis 1987).

    values: [n, grid]; quantiles: [n, grid, 7], ascending. Returns scale and shape, [grid, 2]: see core/distribution.py.
    Both tails are fitted together, because each has few values. DEFAULT_TAIL is used where both have too few.
    """
    values, quantiles = values.double(), quantiles.double()
    median, low, high = quantiles[..., _MEDIAN], quantiles[..., 0], quantiles[..., -1]
    below, above = (low - values) / (median - low).clamp_min(1e-6), (values - high) / (high - median).clamp_min(1e-6)
    excess = torch.cat([below, above]).clamp_min(0)
    count = (excess > 0).sum(dim=0)
    mean = excess.sum(dim=0) / count.clamp_min(1)
    variance = excess.square().sum(dim=0) / count.clamp_min(1) - mean.square()
    shape = (0.5 * (1 - mean.square() / variance.clamp_min(1e-12))).clamp(0, _HEAVIEST_TAIL)
    fitted = torch.stack([mean * (1 - shape), shape], dim=-1).float()
    return torch.where((count < _FEWEST_EXCESSES).unsqueeze(-1), torch.tensor(DEFAULT_TAIL).to(fitted), fitted)


def _ever_wider(quantiles: Tensor) -> Tensor:
    """Return the quantiles [n, grid, 7] with distances to the median that never shrink from one horizon to the next."""
    median = quantiles[..., _MEDIAN : _MEDIAN + 1]
    distances = (quantiles - median).unbind(dim=1)
    below, above = [distances[0].clamp(max=0)], [distances[0].clamp(min=0)]
    for distance in distances[1:]:  # torch.cummax has no ONNX operator
        below.append(torch.minimum(below[-1], distance))
        above.append(torch.maximum(above[-1], distance))
    return median + torch.stack(below, dim=1) + torch.stack(above, dim=1)


def _interpolation() -> Tensor:
    """Return the weights [HORIZONS, grid] that interpolate the grid: linear in the square root of the horizon.

    A quantile of a random walk grows with that root, so it is interpolated exactly.
    """
    grid, horizons = np.sqrt(HORIZON_GRID), np.sqrt(np.arange(1, HORIZONS + 1))
    weights = [np.interp(horizons, grid, of_one) for of_one in np.eye(len(grid))]
    return torch.tensor(np.stack(weights, axis=1), dtype=torch.float32)


_INTERPOLATION = _interpolation()


def column_quantiles(values: Tensor) -> Tensor:
    """Return the quantiles of each column: [7] of [n], [columns, 7] of [n, columns]."""
    levels = _LEVELS.to(values)
    return torch.quantile(values, levels, dim=0).movedim(0, -1)


def _without_constants(deviation: Tensor) -> Tensor:
    """Return the standard deviations, with 1 for a constant feature, whose rounding errors would be magnified."""
    return torch.where(deviation < _CONSTANT, 1.0, deviation)
