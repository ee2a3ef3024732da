"""Features of candles as torch operations: the same code runs in training and inside the ONNX graph.

The features at candle t use candles up to t and nothing later. Volatility is measured by HAR-type means of squared
returns (Corsi 2009) and of Parkinson's range variance, (ln high/low)^2 / (4 ln 2) (Parkinson 1980), over an hour to
thirty days, and by the mean of the upcoming hour of the day over the last thirty days.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, conv1d

OPEN, HIGH, LOW, CLOSE, VOLUME, HOUR_OF_WEEK = range(6)

WARMUP = 720
"""Candles before the first one whose features are complete."""

_MIN_VARIANCE = 1e-10  # a volatility of 0.001 %, for candles whose price does not move
_CLIP = 8.0
_MAX_MOVE = 0.25  # of log prices: one extreme wick must not dominate a month of volatility
_PARKINSON = 4 * math.log(2)
_DAY = 24

SEQUENCE_FEATURES = 14
STATIC_FEATURES = 34
LOG_VARIANCES = 16
"""The first 16 static features are logarithms of variances."""
HAR = (0, 2, 3, 5, 7, 9, 11, 13, 17, 29, 30, 31, 32, 33)
"""Indices of the static features of a plain HAR model: variances of the pair and of BTC, volume and calendar."""


def sequence_features(candles: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the features of each candle that has WARMUP candles before it.

    candles, reference: [batch, n, 6], columns as in onnx_model.COLUMNS.
    Returns (sequence [batch, n - WARMUP, 14], static [batch, n - WARMUP, 34]), finite, not standardised. The static
    ones are the regressors of the volatility model and of the linear head.
    """
    own_return, own_range = _returns(candles), _range_variance(candles)
    btc_return, btc_range = _returns(reference), _range_variance(reference)
    ranges = {hours: _log_mean(own_range, hours) for hours in (1, 3, 6, 24, 72, 168, WARMUP)}
    btc_ranges = {hours: _log_mean(btc_range, hours) for hours in (1, 6, 24, 168)}
    squares = [_log_mean(own_return**2, hours) for hours in (24, 168, WARMUP)]
    downside = _log_mean(own_return.clamp(max=0) ** 2, 24)
    deviation, btc_deviation = (0.5 * ranges[24]).exp(), (0.5 * btc_ranges[24]).exp()
    coming_hour, this_hour = _log_same_hour(own_range, ahead=1), _log_same_hour(own_range, ahead=0)
    unusual = ranges[1] - this_hour
    volume, close_in_range, calendar = (_relative_volume(candles, 1), _close_in_range(candles), _calendar(candles))
    sequence = [
        _move(own_return, deviation, 1),
        close_in_range,
        ranges[1] - ranges[168],
        ranges[24] - ranges[168],
        volume,
        _move(btc_return, btc_deviation, 1),
        btc_ranges[1] - btc_ranges[24],
        unusual,
        coming_hour - ranges[WARMUP],
        *calendar,
    ]
    static = [
        *ranges.values(),
        *squares,
        downside,
        *btc_ranges.values(),
        coming_hour,
        unusual,
        volume,
        _relative_volume(candles, 6),
        close_in_range,
        *(_move(own_return, deviation, hours) for hours in (1, 3, 12, 48)),
        *(_move(btc_return, btc_deviation, hours) for hours in (1, 3, 12, 48)),
        _close_in_range(reference),
        *calendar,
    ]
    return torch.stack(sequence, dim=-1), torch.stack(static, dim=-1)


def level_features(candles: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return what LevelMse reads: open, high, low, close and volume unchanged, and the last close. Needs no warm-up."""
    # the zero term makes the exported graph read `reference`, as the contract demands
    return candles[..., :HOUR_OF_WEEK], candles[..., CLOSE : CLOSE + 1] + 0 * reference[..., CLOSE : CLOSE + 1]


def _returns(candles: Tensor) -> Tensor:
    """Return ln(close / previous close), [batch, n]; 0 for the first candle, which has no previous one."""
    logs = candles[..., CLOSE].log()
    change = (logs[:, 1:] - logs[:, :-1]).clamp(-_MAX_MOVE, _MAX_MOVE)
    return torch.cat([torch.zeros_like(logs[:, :1]), change], dim=1)


def _range_variance(candles: Tensor) -> Tensor:
    return (candles[..., HIGH] / candles[..., LOW]).log().clamp(max=_MAX_MOVE) ** 2 / _PARKINSON


def _log_mean(values: Tensor, window: int) -> Tensor:
    return (_mean(values, window) + _MIN_VARIANCE).log()


def _mean(values: Tensor, window: int) -> Tensor:
    """Return the mean over the last `window` candles, for each candle from WARMUP on."""
    return avg_pool1d(values[:, WARMUP - window + 1 :].unsqueeze(1), window, stride=1).squeeze(1)


def _log_same_hour(values: Tensor, ahead: int) -> Tensor:
    """Return ln of the mean over thirty days, at the hour of day of the candle `ahead` of each one."""
    days = WARMUP // _DAY
    kernel = torch.full((1, 1, days), 1 / days, dtype=values.dtype, device=values.device)
    whole_days_before = values[:, ahead : values.shape[1] - _DAY + ahead].unsqueeze(1)
    mean = conv1d(whole_days_before, kernel, dilation=_DAY).squeeze(1)
    return (mean + _MIN_VARIANCE).log()


def _move(returns: Tensor, deviation: Tensor, window: int) -> Tensor:
    """Return the move over `window` candles in standard deviations of that many candles."""
    total = _mean(returns, window) * window
    return (total / (deviation * math.sqrt(window))).clamp(-_CLIP, _CLIP)


def _relative_volume(candles: Tensor, window: int) -> Tensor:
    """Return ln of the mean volume over its weekly mean, within +-8; a volume of 0 gives a large negative number."""
    volume = candles[..., VOLUME]
    # the floor applies to the ratio, so that it is the same for coins of any price
    ratio = _mean(volume, window) / (_mean(volume, 168) + 1e-30)
    return (ratio + 1e-3).log().clamp(-_CLIP, _CLIP)


def _close_in_range(candles: Tensor) -> Tensor:
    """Return the position of the close between low (-0.5) and high (+0.5)."""
    known = candles[:, WARMUP:]
    width = known[..., HIGH] - known[..., LOW]
    position = (known[..., CLOSE] - known[..., LOW]) / (width + known[..., CLOSE] * 1e-7)
    return position.clamp(0, 1) - 0.5


def _calendar(candles: Tensor) -> list[Tensor]:
    """Return two harmonics of the hour of day, and the weekend flag, of the candle to be forecast."""
    upcoming = (candles[:, WARMUP:, HOUR_OF_WEEK] + 1) % 168
    day = upcoming * (2 * math.pi / 24)
    weekend = (upcoming >= 120).to(candles.dtype)
    return [day.sin(), day.cos(), (2 * day).sin(), (2 * day).cos(), weekend]
