"""Quantile networks on top of a log-HAR volatility model, which explains most of the scale of the next return.

The regression is on ranges (Corsi 2009, Parkinson 1980). LevelMse is the model of 2022, for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, mse_loss, scaled_dot_product_attention

from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.forecasting.features import CLOSE, HOUR_OF_WEEK, SEQUENCE_FEATURES, STATIC_FEATURES
from make_us_rich.forecasting.samples import Samples

_RIDGE = 1e-3  # of the volatility regression
_DROPOUT = 0.4
_CLIP = 5.0  # of standardised features
# The log variance may leave its range on the training samples by a factor of two: the regression must not extrapolate
# an extreme wick.
_LOG_VARIANCE_MARGIN = math.log(2)
# Calibration shifts are halved: the past weeks predict the coverage of the next ones only in part.
_CALIBRATION_SHRINKAGE = 0.5


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

    def clip_gradients(self, max_norm: float) -> None:
        """Scale all gradients down to at most this joint norm."""
        nn.utils.clip_grad_norm_(self.parameters(), max_norm)

    def calibrate(self, samples: Samples) -> None:
        """Adjust the quantiles to their levels on these samples."""
        raise NotImplementedError

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Return the quantiles of the next log return, [n, 7], ascending."""
        raise NotImplementedError


class Loss(nn.Module):
    """Computes a network's loss in `forward`, which functional_call and DistributedDataParallel require."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        return self.network.loss(sequence, static, target)


def pinball_loss(quantiles: Tensor, target: Tensor) -> Tensor:
    """Return the mean pinball loss over samples and levels. quantiles: [n, 7]; target: [n]."""
    levels = torch.tensor(QUANTILE_LEVELS, dtype=quantiles.dtype, device=quantiles.device)
    error = target.unsqueeze(-1) - quantiles
    return torch.maximum(levels * error, (levels - 1) * error).mean()


class ScaledQuantiles(Network):
    """Forecasts quantiles of the return divided by its HAR volatility.

    A body reads the sequence; a linear head reads the body's state and the static features.
    """

    mean: Tensor  # of the static features, and so on
    deviation: Tensor
    weights: Tensor  # of the volatility regression
    intercept: Tensor
    calmest: Tensor  # lowest and highest log variance of the training samples, without the intercept
    wildest: Tensor
    sequence_mean: Tensor
    sequence_deviation: Tensor
    typical: Tensor  # median absolute standardised return of the training samples
    calibration: Tensor  # shift of each quantile

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width + STATIC_FEATURES, len(QUANTILE_LEVELS))
        for name, size in (
            ("mean", STATIC_FEATURES),
            ("deviation", STATIC_FEATURES),
            ("weights", STATIC_FEATURES),
            ("sequence_mean", SEQUENCE_FEATURES),
            ("sequence_deviation", SEQUENCE_FEATURES),
            ("calibration", len(QUANTILE_LEVELS)),
        ):
            self.register_buffer(name, torch.zeros(size))
        for name in ("intercept", "calmest", "wildest", "typical"):
            self.register_buffer(name, torch.zeros(()))

    def fit_scaling(self, samples: Samples) -> None:
        """Fit scaling and volatility, and initialise the head to the constant quantiles of standardised returns."""
        fitted = _fit_volatility(samples.static, samples.target)
        self.mean, self.deviation, self.weights, self.intercept = (item.float() for item in fitted)
        log_variance = self._log_variance(samples.static)
        self.calmest, self.wildest = log_variance.amin(), log_variance.amax()
        self.sequence_mean = samples.sequence.mean(dim=(0, 1))
        self.sequence_deviation = samples.sequence.std(dim=(0, 1)).clamp_min(1e-6)
        z = samples.target / self.scale(samples.static)[:, 0]
        self.typical = z.abs().median()
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.copy_(_quantiles(z))

    def adapt_to_pair(self, samples: Samples) -> None:
        """Keep the shared scaling; adapt only the level of volatility to the pair."""
        own = (samples.target / self.scale(samples.static)[:, 0]).abs().median()
        self.intercept = self.intercept + 2 * (own / self.typical).log()
        self.calibration = torch.zeros_like(self.calibration)

    def scale(self, static: Tensor) -> Tensor:
        """Return the standard deviation of the next log return, [n, 1]."""
        log_variance = self._log_variance(static).clamp(
            self.calmest - _LOG_VARIANCE_MARGIN, self.wildest + _LOG_VARIANCE_MARGIN
        )
        return (0.5 * (self.intercept + log_variance)).exp()

    def _log_variance(self, static: Tensor) -> Tensor:
        """Return the regression's log variance without its intercept, [n, 1]."""
        return (self._standardise(static) * self.weights).sum(dim=-1, keepdim=True)

    def _standardise(self, static: Tensor) -> Tensor:
        return ((static - self.mean) / self.deviation).clamp(-_CLIP, _CLIP)

    def standardised_quantiles(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Return quantiles of the return divided by its scale, [n, 7], uncalibrated; they may cross."""
        state = self.body((sequence - self.sequence_mean) / self.sequence_deviation)
        state = dropout(state, _DROPOUT, self.training)
        known = dropout(self._standardise(static), _DROPOUT / 2, self.training)
        quantiles: Tensor = self.head(torch.cat([state, known], dim=-1))
        return quantiles

    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        return pinball_loss(self.standardised_quantiles(sequence, static), target / self.scale(static)[:, 0])

    def calibrate(self, samples: Samples) -> None:
        """Shift each quantile half the way to where it would have held its level on these samples.

        Conformal calibration per quantile (Romano, Patterson and Candes 2019), shrunk.
        """
        with torch.no_grad():
            z = samples.target / self.scale(samples.static)[:, 0]
            quantiles = [self.standardised_quantiles(part.sequence, part.static) for part in samples.chunks()]
            errors = z.unsqueeze(-1) - torch.cat(quantiles)
            shifts = [torch.quantile(errors[:, index], level) for index, level in enumerate(QUANTILE_LEVELS)]
            self.calibration = _CALIBRATION_SHRINKAGE * torch.stack(shifts)

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        quantiles = self.standardised_quantiles(sequence, static) + self.calibration
        ordered, _ = torch.sort(quantiles, dim=-1)
        return ordered * self.scale(static)


def lstm(hidden: int, length: int) -> ScaledQuantiles:
    return ScaledQuantiles(_Recurrent(nn.LSTM, hidden), hidden)


def gru(hidden: int, length: int) -> ScaledQuantiles:
    return ScaledQuantiles(_Recurrent(nn.GRU, hidden), hidden)


def linear(hidden: int, length: int) -> ScaledQuantiles:
    """Build a HAR quantile regression: the linear head without a body."""
    return ScaledQuantiles(_EmptyBody(), 0)


def patchtst(hidden: int, length: int) -> ScaledQuantiles:
    """Build a small transformer over patches of candles (after Nie et al. 2023, channels mixed)."""
    return ScaledQuantiles(_PatchTransformer(hidden, length), hidden)


class _EmptyBody(nn.Module):
    def forward(self, steps: Tensor) -> Tensor:
        return steps[:, -1, :0]


class _Recurrent(nn.Module):
    """Returns the last hidden state of one recurrent layer."""

    def __init__(self, kind: Callable[..., nn.Module], hidden: int) -> None:
        super().__init__()
        self.layer = kind(SEQUENCE_FEATURES, hidden, batch_first=True)

    def forward(self, steps: Tensor) -> Tensor:
        states: Tensor = self.layer(steps)[0]
        return states[:, -1]


class _PatchTransformer(nn.Module):
    _PATCH = 4
    _HEADS = 4

    def __init__(self, hidden: int, length: int) -> None:
        super().__init__()
        self.embed = nn.Linear(self._PATCH * SEQUENCE_FEATURES, hidden)
        self.position = nn.Parameter(torch.randn(length // self._PATCH, hidden) / math.sqrt(hidden))
        self.before_attention, self.before_mixing = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.mixing = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden))

    def forward(self, steps: Tensor) -> Tensor:
        count, hidden = self.position.shape
        newest = steps[:, steps.shape[1] - count * self._PATCH :]
        x = self.embed(newest.reshape(-1, count, self._PATCH * SEQUENCE_FEATURES)) + self.position
        heads = self.queries_keys_values(self.before_attention(x)).reshape(
            -1, count, 3, self._HEADS, hidden // self._HEADS
        )
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        attended = scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).reshape(-1, count, hidden))
        x = x + self.mixing(self.before_mixing(x))
        pooled: Tensor = x.mean(dim=1)
        return pooled


class LevelMse(Network):
    """The model of the first version (2022): an LSTM trained on the mean squared error of the scaled close.

    Unlike the original it is descaled correctly, and the quantiles of recent residuals make its point forecast a
    distribution that can be scored like the others.
    """

    _LAYERS = 2
    low: Tensor  # min-max scaling of the inputs
    height: Tensor
    calibration: Tensor  # quantiles of the residuals

    def __init__(self, hidden: int, length: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(HOUR_OF_WEEK, hidden, num_layers=self._LAYERS, batch_first=True)
        self.head = nn.Linear(hidden, 1)
        self.register_buffer("low", torch.zeros(HOUR_OF_WEEK))
        self.register_buffer("height", torch.ones(HOUR_OF_WEEK))
        self.register_buffer("calibration", torch.zeros(len(QUANTILE_LEVELS)))

    def fit_scaling(self, samples: Samples) -> None:
        self.low = samples.sequence.amin(dim=(0, 1))
        self.height = (samples.sequence.amax(dim=(0, 1)) - self.low).clamp_min(1e-12)

    def adapt_to_pair(self, samples: Samples) -> None:
        """Fit all scaling anew: the price level of one pair says nothing about another's."""
        self.fit_scaling(samples)

    def _level(self, sequence: Tensor) -> Tensor:
        states, _ = self.recurrent((sequence - self.low) / self.height)
        level: Tensor = self.head(states[:, -1])[:, 0]
        return level

    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        next_close = static[:, 0] * target.exp()
        return mse_loss(self._level(sequence), (next_close - self.low[CLOSE]) / self.height[CLOSE])

    def _log_return(self, sequence: Tensor, static: Tensor) -> Tensor:
        price = self.low[CLOSE] + self._level(sequence) * self.height[CLOSE]
        # the forecast level may be no price at all: limit it to between a tenth and ten times the last close
        ratio = (price / static[:, 0]).clamp(0.1, 10.0)
        return ratio.log().unsqueeze(-1)

    def calibrate(self, samples: Samples) -> None:
        with torch.no_grad():
            residuals = samples.target - self._log_return(samples.sequence, samples.static)[:, 0]
            self.calibration = _quantiles(residuals)

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        return self._log_return(sequence, static) + self.calibration


def _fit_volatility(static: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fit ln(target^2) on the static features by least squares, then scale so that target / sigma has variance 1.

    static: [n, features]; target: [n], log returns. The logarithm gives calm and volatile hours the same weight.
    Returns (mean, deviation, weights, intercept): ln sigma^2 = intercept + (static - mean) / deviation . weights.
    """
    features = static.double()
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    x = (features - mean) / deviation
    # a floor of a hundredth of the typical size, because the logarithm of a return of 0 is infinite
    floor = 1e-2 * target.double().abs().median().clamp_min(1e-7)
    y = 2 * target.double().abs().clamp_min(floor).log()
    gram = x.T @ x / len(x) + _RIDGE * torch.eye(x.shape[1], dtype=torch.float64, device=x.device)
    weights = torch.linalg.solve(gram, x.T @ (y - y.mean()) / len(x))
    log_variance = y.mean() + x @ weights
    # the mean of a logarithm is below the logarithm of the mean
    z = target.double() / (0.5 * log_variance).exp()
    intercept = y.mean() + (z.clamp(-10, 10) ** 2).mean().log()
    return mean, deviation, weights, intercept


def _quantiles(values: Tensor) -> Tensor:
    return torch.quantile(values, torch.tensor(QUANTILE_LEVELS, device=values.device, dtype=values.dtype))
