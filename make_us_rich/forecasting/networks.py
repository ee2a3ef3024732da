"""Quantile networks: small, and most of what they know about size comes from the volatility model below them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.forecasting.features import SEQUENCE_FEATURES, STATIC_FEATURES
from make_us_rich.forecasting.samples import Samples
from make_us_rich.forecasting.volatility import fit_volatility

_DROPOUT = 0.4
_CLIP = 5.0  # standardised features beyond this say no more
# A log variance may leave the training rows' range by a factor of two: a wick must not make the regression extrapolate.
_MARGIN = math.log(2)
# Half: weeks of the past say only so much of those to come.
_TRUST_IN_THE_PAST = 0.5


class Network(nn.Module):
    """What training and export ask of a network. All scaling is held in buffers."""

    def fit_scaling(self, rows: Samples) -> None:
        """Take all scaling from these training rows."""
        raise NotImplementedError

    def adapt_to_pair(self, rows: Samples) -> None:
        """Make a network that was trained on many pairs that of the pair of these, its newest training rows."""
        raise NotImplementedError

    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def cut_gradients(self, most: float) -> None:
        """At this norm."""
        nn.utils.clip_grad_norm_(self.parameters(), most)

    def calibrate(self, rows: Samples) -> None:
        raise NotImplementedError

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Quantiles of the next log return, [n, 7], ascending."""
        raise NotImplementedError


class Loss(nn.Module):
    """A network's loss as a module's forward, which is what functional_call and DistributedDataParallel call."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        return self.network.loss(sequence, static, target)


def pinball_loss(quantiles: Tensor, target: Tensor) -> Tensor:
    """Mean over rows and levels. quantiles: [n, 7]; target: [n]."""
    levels = torch.tensor(QUANTILE_LEVELS, dtype=quantiles.dtype, device=quantiles.device)
    error = target.unsqueeze(-1) - quantiles
    return torch.maximum(levels * error, (levels - 1) * error).mean()


class ScaledQuantiles(Network):
    """Quantiles of the return over its HAR volatility: from a body that reads the sequence and a linear head that sees
    the static features beside it. Scaling and calibration are buffers, so they travel with the weights."""

    mean: Tensor
    deviation: Tensor
    weights: Tensor
    intercept: Tensor
    calmest: Tensor
    wildest: Tensor
    sequence_mean: Tensor
    sequence_deviation: Tensor
    typical: Tensor
    calibration: Tensor

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

    def fit_scaling(self, rows: Samples) -> None:
        """Take the rows' scaling, and begin as the constant quantiles of their standardised returns."""
        fitted = fit_volatility(rows.static, rows.target)
        self.mean, self.deviation = fitted.mean, fitted.deviation
        self.weights, self.intercept = fitted.weights, fitted.intercept
        shape = self._shape(rows.static)
        self.calmest, self.wildest = shape.amin(), shape.amax()
        self.sequence_mean = rows.sequence.mean(dim=(0, 1))
        self.sequence_deviation = rows.sequence.std(dim=(0, 1)).clamp_min(1e-6)
        z = rows.target / self.scale(rows.static)[:, 0]
        self.typical = z.abs().median()
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.copy_(_quantiles(z))

    def adapt_to_pair(self, rows: Samples) -> None:
        """Keep the shared scaling; only the level of volatility becomes the pair's own."""
        own = (rows.target / self.scale(rows.static)[:, 0]).abs().median()
        self.intercept = self.intercept + 2 * (own / self.typical).log()
        self.calibration = torch.zeros_like(self.calibration)

    def scale(self, static: Tensor) -> Tensor:
        """sigma of the next log return, [n, 1]."""
        shape = self._shape(static).clamp(self.calmest - _MARGIN, self.wildest + _MARGIN)
        return (0.5 * (self.intercept + shape)).exp()

    def _shape(self, static: Tensor) -> Tensor:
        return (self._known(static) * self.weights).sum(dim=-1, keepdim=True)

    def _known(self, static: Tensor) -> Tensor:
        return ((static - self.mean) / self.deviation).clamp(-_CLIP, _CLIP)

    def standardised(self, sequence: Tensor, static: Tensor) -> Tensor:
        """Quantiles of the return over sigma, [n, 7], before calibration; they may still cross."""
        state = self.body((sequence - self.sequence_mean) / self.sequence_deviation)
        state = dropout(state, _DROPOUT, self.training)
        known = dropout(self._known(static), _DROPOUT / 2, self.training)
        quantiles: Tensor = self.head(torch.cat([state, known], dim=-1))
        return quantiles

    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        return pinball_loss(self.standardised(sequence, static), target / self.scale(static)[:, 0])

    def calibrate(self, rows: Samples) -> None:
        """Shift each quantile half the way to where it would have held its level on these rows, the newest known.

        Conformal calibration per quantile (Romano, Patterson and Candes 2019), shrunk.
        """
        with torch.no_grad():
            z = rows.target / self.scale(rows.static)[:, 0]
            known = [self.standardised(part.sequence, part.static) for part in rows.pieces()]
            misses = z.unsqueeze(-1) - torch.cat(known)
            shifts = [torch.quantile(misses[:, index], level) for index, level in enumerate(QUANTILE_LEVELS)]
            self.calibration = _TRUST_IN_THE_PAST * torch.stack(shifts)

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        quantiles = self.standardised(sequence, static) + self.calibration
        ordered, _ = torch.sort(quantiles, dim=-1)
        return ordered * self.scale(static)


def lstm(hidden: int, length: int) -> ScaledQuantiles:
    return ScaledQuantiles(_Recurrent(nn.LSTM, hidden), hidden)


def gru(hidden: int, length: int) -> ScaledQuantiles:
    return ScaledQuantiles(_Recurrent(nn.GRU, hidden), hidden)


def linear(hidden: int, length: int) -> ScaledQuantiles:
    """HAR quantile regression: the head alone."""
    return ScaledQuantiles(_Nothing(), 0)


def patchtst(hidden: int, length: int) -> ScaledQuantiles:
    """A small transformer over patches of candles (after Nie et al. 2023, channels mixed)."""
    return ScaledQuantiles(_PatchTransformer(hidden, length), hidden)


class _Nothing(nn.Module):
    def forward(self, steps: Tensor) -> Tensor:
        return steps[:, -1, :0]


class _Recurrent(nn.Module):
    """The last hidden state of one recurrent layer."""

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


def _quantiles(values: Tensor) -> Tensor:
    return torch.quantile(values, torch.tensor(QUANTILE_LEVELS, device=values.device, dtype=values.dtype))
