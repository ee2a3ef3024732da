"""Features of candles as torch operations: the same code runs in training and inside the ONNX graph.

The features of a candle use this candle and earlier ones, and nothing later. Volatility has two estimates for each
candle: the squared return, and Parkinson's range deviation, ln(high/low) / sqrt(4 ln 2) (Parkinson 1980). The features
are their means over an hour to thirty days (HAR, Corsi 2009), and their diurnal profile: the mean range at a time of
day over the last thirty days. A crash distorts a mean of deviations less than a mean of variances. Each mean enters as
the logarithm of a variance. Windows are durations, so each interval has its own numbers of candles: see
`feature_layout`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, conv1d

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.documents import HORIZON_GRID

OPEN, HIGH, LOW, CLOSE, VOLUME, HOUR_OF_WEEK = range(6)

_MIN_DEVIATION = 1e-5  # a volatility of 0.001 %, for candles whose price does not move
_MIN_VARIANCE = _MIN_DEVIATION**2
_CLIP = 8.0
_MAX_MOVE = 0.25  # of log prices: one extreme wick must not dominate a month of volatility
_PARKINSON = math.sqrt(4 * math.log(2))
_DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True)
class FeatureLayout:
    """The features of one interval: their windows, and their order. Windows are in candles, ascending.

    step_hours: length of a candle. ranges: windows of the pair's volatility; the longest is the warm-up.
    nearest: the windows of BTC's volatility and of volume shorter than `recent`. recent: a day; moves are measured in
    its volatility. usual: a week; short windows are compared with it. moves: windows of returns.
    """

    step_hours: float
    ranges: tuple[int, ...]
    nearest: tuple[int, ...]
    recent: int
    usual: int
    moves: tuple[int, ...]

    @property
    def warmup(self) -> int:
        """Candles before the first one whose features are complete."""
        return self.ranges[-1]

    @property
    def day(self) -> int:
        """Candles of a day."""
        return round(24 / self.step_hours)

    @property
    def profile_horizons(self) -> tuple[int, ...]:
        """The horizons with a diurnal profile. Over more than a day the times of day even out."""
        return tuple(horizon for horizon in HORIZON_GRID if 1 < self.day >= horizon)

    @property
    def sequence_size(self) -> int:
        """Number of sequence features."""
        return 7 + 2 * bool(self.profile_horizons) + len(self._calendar)

    @property
    def static_size(self) -> int:
        """Number of static features."""
        return len(self._static)

    @property
    def log_variances(self) -> int:
        """Number of static features that are logarithms of variances. They come first."""
        return len(self._log_variances)

    @cached_property
    def har(self) -> list[int]:
        """Indices of the static features of a plain HAR model: variances, volume and calendar."""
        windows = (*self.nearest, self.recent, self.usual)
        names = [*(f"range {window}" for window in windows), f"square {self.recent}", f"square {self.warmup}", "falls"]
        names += [f"BTC range {self.nearest[0]}", f"BTC range {self.recent}", f"volume {self.nearest[0]}"]
        return [self._static.index(name) for name in (*names, *self._calendar)]

    def profile_until(self, horizon: int) -> list[int]:
        """Return the index of the mean diurnal profile of the next `horizon` candles; empty if there is none."""
        return [self._static.index(f"profile until {horizon}")] if horizon in self.profile_horizons else []

    @cached_property
    def next_close(self) -> list[int]:
        """Indices of the static features for the next close: all but the diurnal profiles of later horizons."""
        later = [index for horizon in HORIZON_GRID[1:] for index in self.profile_until(horizon)]
        return [index for index in range(self.static_size) if index not in later]

    @cached_property
    def _log_variances(self) -> list[str]:
        return [
            *(f"range {window}" for window in self.ranges),
            *(f"square {window}" for window in (self.recent, self.usual, self.warmup)),
            "falls",
            *(f"BTC range {window}" for window in (*self.nearest, self.recent, self.usual)),
            *(f"profile until {horizon}" for horizon in self.profile_horizons),
        ]

    @cached_property
    def _static(self) -> list[str]:
        """The names of the static features, in their order in `sequence_features`."""
        return [
            *self._log_variances,
            *(["range over profile"] if self.profile_horizons else []),
            *(f"volume {window}" for window in self.nearest),
            "close in range",
            *(f"move {window}" for window in self.moves),
            *(f"BTC move {window}" for window in self.moves),
            "BTC close in range",
            *self._calendar,
        ]

    @property
    def _calendar(self) -> tuple[str, ...]:
        if self.day > 1:
            return "sin day", "cos day", "sin half day", "cos half day", "weekend"
        return "sin week", "cos week", "weekend"


@cache
def feature_layout(interval: Interval) -> FeatureLayout:
    """Return the layout of an interval.

    Windows are an hour to thirty days; to fourteen days below an hour, where a warm-up of 2,880 candles would make each
    forecast slower, and to ninety from four hours on, whose horizons are days. A window shorter than a candle becomes
    one candle, and equal windows count once. Daily candles have windows of a day to sixty days, a week for `recent` and
    thirty days for `usual`.
    """
    hours = interval.ms / HOUR_MS

    def candles(*durations: float) -> tuple[int, ...]:
        return tuple(sorted({max(1, int(duration / hours)) for duration in (hours, *durations)}))

    if interval.ms >= _DAY_MS:
        return FeatureLayout(hours, ranges=(1, 3, 7, 30, 60), nearest=(1, 3), recent=7, usual=30, moves=(1, 3, 7))
    longest = (336,) if hours < 1 else (720,) if hours < 4 else (720, 2160)
    return FeatureLayout(
        hours,
        ranges=candles(1, 3, 6, 24, 72, 168, *longest),
        nearest=candles(1, 6),
        recent=int(24 / hours),
        usual=int(168 / hours),
        moves=candles(1, 3, 12, 48),
    )


def sequence_features(candles: Tensor, reference: Tensor, layout: FeatureLayout) -> tuple[Tensor, Tensor]:
    """Compute the features of each candle that has `layout.warmup` candles before it.

    candles, reference: [batch, n, 6], columns as in onnx_model.COLUMNS.
    Returns (sequence [batch, n - warmup, sequence_size], static [batch, n - warmup, static_size]), finite, not
    standardised. The static ones are the regressors of the volatility model and of the linear head.
    """
    recent, usual, warmup = layout.recent, layout.usual, layout.warmup
    own_return, own_range = _returns(candles), range_deviation(candles)
    btc_return, btc_range = _returns(reference), range_deviation(reference)
    ranges = {window: _log_variance(own_range, window, warmup) for window in layout.ranges}
    btc_ranges = {window: _log_variance(btc_range, window, warmup) for window in (*layout.nearest, recent, usual)}
    squares = [_log_mean(own_return**2, window, warmup) for window in (recent, usual, warmup)]
    falls = _log_mean(own_return.clamp(max=0) ** 2, recent, warmup)
    deviation, btc_deviation = (0.5 * ranges[recent]).exp(), (0.5 * btc_ranges[recent]).exp()
    # for daily candles these three are empty
    profile_now, profiles_ahead = _diurnal_profile(own_range, layout)
    range_over_profile = [ranges[1] - profile for profile in profile_now]
    volume = _relative_volume(candles, layout.nearest[0], layout)
    close_in_range, calendar = _close_in_range(candles, warmup), _calendar(candles, layout)
    sequence = [
        _move(own_return, deviation, 1, warmup),
        close_in_range,
        ranges[1] - ranges[usual],
        ranges[recent] - ranges[usual],
        volume,
        _move(btc_return, btc_deviation, 1, warmup),
        btc_ranges[1] - btc_ranges[recent],
        *range_over_profile,
        *(profile - ranges[warmup] for profile in profiles_ahead[:1]),
        *calendar,
    ]
    static = [
        *ranges.values(),
        *squares,
        falls,
        *btc_ranges.values(),
        *profiles_ahead,
        *range_over_profile,
        volume,
        *(_relative_volume(candles, window, layout) for window in layout.nearest[1:]),
        close_in_range,
        *(_move(own_return, deviation, window, warmup) for window in layout.moves),
        *(_move(btc_return, btc_deviation, window, warmup) for window in layout.moves),
        _close_in_range(reference, warmup),
        *calendar,
    ]
    return torch.stack(sequence, dim=-1), torch.stack(static, dim=-1)


def level_features(candles: Tensor, reference: Tensor, layout: FeatureLayout) -> tuple[Tensor, Tensor]:
    """Return what LevelMse reads: open, high, low, close and volume unchanged, and the last close. Needs no warm-up."""
    # the zero term makes the exported graph read `reference`, as the contract demands
    return candles[..., :HOUR_OF_WEEK], candles[..., CLOSE : CLOSE + 1] + 0 * reference[..., CLOSE : CLOSE + 1]


def _returns(candles: Tensor) -> Tensor:
    """Return ln(close / previous close), [batch, n]; 0 for the first candle, which has no previous one."""
    logs = candles[..., CLOSE].log()
    change = (logs[:, 1:] - logs[:, :-1]).clamp(-_MAX_MOVE, _MAX_MOVE)
    return torch.cat([torch.zeros_like(logs[:, :1]), change], dim=1)


def range_deviation(candles: Tensor) -> Tensor:
    """Return Parkinson's estimate of the standard deviation of each candle's log return, [batch, n]."""
    return (candles[..., HIGH] / candles[..., LOW]).log().clamp(max=_MAX_MOVE) / _PARKINSON


def _log_mean(variances: Tensor, window: int, warmup: int) -> Tensor:
    return (_mean(variances, window, warmup) + _MIN_VARIANCE).log()


def _log_variance(deviations: Tensor, window: int, warmup: int) -> Tensor:
    """Return the logarithm of the squared mean deviation over the last `window` candles."""
    return 2 * (_mean(deviations, window, warmup) + _MIN_DEVIATION).log()


def _mean(values: Tensor, window: int, warmup: int) -> Tensor:
    """Return the mean over the last `window` candles, for each candle from `warmup` on."""
    return avg_pool1d(values[:, warmup - window + 1 :].unsqueeze(1), window, stride=1).squeeze(1)


def _diurnal_profile(deviations: Tensor, layout: FeatureLayout) -> tuple[list[Tensor], list[Tensor]]:
    """Return the diurnal volatility profile: ([at each candle's own time of day], [ahead, for each profile horizon]).

    Each is the log variance of the mean deviation at these times over the days of the warm-up. The profile ahead is the
    mean over the next candles up to the horizon. Both lists are empty when the layout has no profile horizons.
    """
    if not layout.profile_horizons:
        return [], []
    days = layout.warmup // layout.day
    kernel = torch.full((1, 1, days), 1 / days, dtype=deviations.dtype, device=deviations.device)
    # entry i + k is the mean at the time of day that is k candles after that of the i-th candle from the warm-up on
    by_time = conv1d(deviations.unsqueeze(1), kernel, dilation=layout.day).squeeze(1)
    count = deviations.shape[1] - layout.warmup
    now, later = by_time[:, :count], by_time[:, 1:]
    ahead = [avg_pool1d(later.unsqueeze(1), until, stride=1).squeeze(1)[:, :count] for until in layout.profile_horizons]
    logs = [2 * (mean + _MIN_DEVIATION).log() for mean in (now, *ahead)]
    return logs[:1], logs[1:]


def _move(returns: Tensor, deviation: Tensor, window: int, warmup: int) -> Tensor:
    """Return the move over `window` candles in standard deviations of that many candles."""
    total = _mean(returns, window, warmup) * window
    return (total / (deviation * math.sqrt(window))).clamp(-_CLIP, _CLIP)


def _relative_volume(candles: Tensor, window: int, layout: FeatureLayout) -> Tensor:
    """Return ln of the mean volume over its usual mean, within +-8; a volume of 0 gives a large negative number."""
    volume = candles[..., VOLUME]
    # the floor applies to the ratio, so that it is the same for coins of any price
    ratio = _mean(volume, window, layout.warmup) / (_mean(volume, layout.usual, layout.warmup) + 1e-30)
    return (ratio + 1e-3).log().clamp(-_CLIP, _CLIP)


def _close_in_range(candles: Tensor, warmup: int) -> Tensor:
    """Return the position of the close between low (-0.5) and high (+0.5)."""
    known = candles[:, warmup:]
    width = known[..., HIGH] - known[..., LOW]
    position = (known[..., CLOSE] - known[..., LOW]) / (width + known[..., CLOSE] * 1e-7)
    return position.clamp(0, 1) - 0.5


def _calendar(candles: Tensor, layout: FeatureLayout) -> list[Tensor]:
    """Return harmonics, two of the time of day or one of the week, and the weekend flag, of the candle to forecast."""
    upcoming = (candles[:, layout.warmup :, HOUR_OF_WEEK] + layout.step_hours) % 168
    period = 24 if layout.day > 1 else 168
    phase = upcoming * (2 * math.pi / period)
    weekend = (upcoming >= 120).to(candles.dtype)
    if layout.day == 1:
        return [phase.sin(), phase.cos(), weekend]
    return [phase.sin(), phase.cos(), (2 * phase).sin(), (2 * phase).cos(), weekend]
