"""Features of a series of candles, as torch operations: the same code runs in training and inside the ONNX graph.

Row t uses candles up to t and nothing later. Volatility comes as HAR-type means of squared returns (Corsi 2009) and of
Parkinson's range variance, (ln high/low)^2 / (4 ln 2) (Parkinson 1980), over an hour to thirty days.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

OPEN, HIGH, LOW, CLOSE, VOLUME, HOUR_OF_WEEK = range(6)

WARMUP = 720
"""Candles before the first row whose features are complete."""

_TINY_VARIANCE = 1e-10  # a volatility of 0.001 %: a floor for markets that stand still
_CLIP = 8.0
_PARKINSON = 4 * math.log(2)

SEQUENCE_FEATURES = 12
STATIC_FEATURES = 14


def sequence_features(candles: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Features of each row that has WARMUP rows before it.

    candles, reference: [batch, n, 6], columns as in contract.COLUMNS.
    Returns (sequence [batch, n - WARMUP, 12], static [batch, n - WARMUP, 14]), finite, not yet standardised. The
    static ones are the regressors of the volatility model; the first six are log variances.
    """
    own_return, own_range = _returns(candles), _range_variance(candles)
    btc_return, btc_range = _returns(reference), _range_variance(reference)
    logs = [
        _log_mean(own_range, 1),
        _log_mean(own_range, 6),
        _log_mean(own_range, 24),
        _log_mean(own_range, 168),
        _log_mean(own_return**2, 24),
        _log_mean(own_return**2, WARMUP),
    ]
    btc_logs = [_log_mean(btc_range, 1), _log_mean(btc_range, 24)]
    deviation = torch.exp(0.5 * logs[2])
    btc_deviation = torch.exp(0.5 * btc_logs[1])
    calendar = _calendar(candles)
    volume = _relative_volume(candles)
    sequence = [
        (own_return[:, WARMUP:] / deviation).clamp(-_CLIP, _CLIP),
        _close_in_range(candles),
        logs[0] - logs[3],
        logs[2] - logs[3],
        volume,
        (btc_return[:, WARMUP:] / btc_deviation).clamp(-_CLIP, _CLIP),
        btc_logs[0] - btc_logs[1],
        *calendar,
    ]
    static = [*logs, *btc_logs, volume, *calendar]
    return torch.stack(sequence, dim=-1), torch.stack(static, dim=-1)


def _returns(candles: Tensor) -> Tensor:
    """ln(close / previous close) [batch, n]; the first row, which has no previous, is 0."""
    logs = candles[..., CLOSE].log()
    change = logs[:, 1:] - logs[:, :-1]
    return torch.cat([torch.zeros_like(logs[:, :1]), change], dim=1)


def _range_variance(candles: Tensor) -> Tensor:
    return (candles[..., HIGH] / candles[..., LOW]).log() ** 2 / _PARKINSON


def _log_mean(values: Tensor, window: int) -> Tensor:
    """ln of the mean over the last `window` rows, for each row from WARMUP on."""
    mean = avg_pool1d(values[:, WARMUP - window + 1 :].unsqueeze(1), window, stride=1).squeeze(1)
    return (mean + _TINY_VARIANCE).log()


def _relative_volume(candles: Tensor) -> Tensor:
    """ln of volume over its weekly mean, within +-8; 0 volume gives a large negative number, not an error."""
    volume = candles[..., VOLUME]
    weekly = avg_pool1d(volume[:, WARMUP - 167 :].unsqueeze(1), 168, stride=1).squeeze(1)
    # relative to the week, so that coins of any price have the same floor
    ratio = volume[:, WARMUP:] / (weekly + 1e-30)
    return (ratio + 1e-3).log().clamp(-_CLIP, _CLIP)


def _close_in_range(candles: Tensor) -> Tensor:
    """Where the close stands between low (-0.5) and high (+0.5)."""
    rows = candles[:, WARMUP:]
    width = rows[..., HIGH] - rows[..., LOW]
    position = (rows[..., CLOSE] - rows[..., LOW]) / (width + rows[..., CLOSE] * 1e-7)
    return position.clamp(0, 1) - 0.5


def _calendar(candles: Tensor) -> list[Tensor]:
    """Of the candle to be forecast: hour of day (two harmonics' worth) and whether it is the weekend."""
    upcoming = (candles[:, WARMUP:, HOUR_OF_WEEK] + 1) % 168
    day = upcoming * (2 * math.pi / 24)
    weekend = (upcoming >= 120).to(candles.dtype)
    return [day.sin(), day.cos(), (2 * day).sin(), (2 * day).cos(), weekend]
