"""From candles to training rows: regular segments, features, targets, and the split in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from make_us_rich.core.errors import BadCandles, NotEnoughHistory
from make_us_rich.core.interval import Interval
from make_us_rich.forecasting.architectures import Architecture, architecture
from make_us_rich.forecasting.contract import COLUMNS, hour_of_week
from make_us_rich.forecasting.samples import Samples, Split, joined
from make_us_rich.forecasting.training_config import TrainingConfig
from make_us_rich.market.candles import Candles, closed, regular_segments

_LEAST_TRAINING_ROWS = 500
_MOST_IDLE = 0.5  # share of candles without volume

Grid = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Panel:
    """Gap-free stretches in which the pair and BTC both have candles, aligned: each [n, 6], oldest first."""

    times: list[NDArray[np.int64]]
    candles: list[Grid]
    reference: list[Grid]


def panel(candles: Candles, reference: Candles, *, interval: Interval, as_of_ms: int, max_bridged: int) -> Panel:
    """What both markets know at `as_of_ms`; nothing later is looked at. Raises BadCandles."""
    mine = closed(candles, interval, as_of_ms)
    btc = closed(reference, interval, as_of_ms)
    _check(mine, "the pair", interval.ms)
    _check(btc, "the reference, btc_usdt", interval.ms)
    times, own, other = [], [], []
    for segment in regular_segments(mine, interval, max_bridged):
        for partner in regular_segments(btc, interval, max_bridged):
            both, left, right = np.intersect1d(
                segment.candles.open_time_ms, partner.candles.open_time_ms, return_indices=True
            )
            if len(both):
                times.append(both)
                own.append(columns(segment.candles[left]))
                other.append(columns(partner.candles[right]))
    return Panel(times, own, other)


def columns(candles: Candles) -> Grid:
    """[n, 6] as in contract.COLUMNS."""
    parts = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    return np.stack([*parts, hour_of_week(candles.open_time_ms)], axis=-1).astype(np.float32)


def rows_of(found: Panel, *, interval: Interval, config: TrainingConfig) -> Samples:
    """A row for every candle with enough history before it and a next candle after it."""
    step, kind = interval.ms, architecture(config.architecture)
    context = kind.warmup + config.length
    parts = [
        _segment_rows(times, own, btc, step, kind, config.length)
        for times, own, btc in zip(found.times, found.candles, found.reference, strict=True)
        if len(times) > context
    ]
    if not parts:
        longest = max((len(times) for times in found.times), default=0)
        raise NotEnoughHistory(
            f"the longest stretch without a long gap has {longest} candles, {context + 1} are needed: "
            "fetch more history"
        )
    return joined(parts)


def split(rows: Samples, *, interval: Interval, as_of_ms: int, config: TrainingConfig) -> Split:
    """By time: the last `holdout` candles, the `validation` candles before them, and the rest of `training`.

    A target is one candle long and every feature looks back only, so the parts share no future.
    """
    step = interval.ms
    holdout_start = as_of_ms - config.holdout * step
    validation_start = holdout_start - config.validation * step
    starts = [holdout_start - config.training * step, validation_start, holdout_start]
    oldest, first, second = (int(index) for index in np.searchsorted(rows.target_open_ms, starts))
    parts = Split(rows[oldest:first], rows[first:second], rows[second:])
    for name, part, least in (
        ("to train on", parts.train, _LEAST_TRAINING_ROWS),
        ("to validate on", parts.validation, config.validation // 2),
        ("held out", parts.holdout, config.holdout // 2),
    ):
        if len(part) < least:
            raise NotEnoughHistory(
                f"{len(part)} usable candles {name}, {least} needed: the pair is too young, or was halted"
            )
    return parts


def raw_windows(
    found: Panel, target_open_ms: NDArray[np.int64], *, interval: Interval, context: int
) -> tuple[NDArray[np.bool_], dict[str, Grid]]:
    """(which targets have `context` candles before them, the graph's inputs for these, each [n, context, 6])."""
    step = interval.ms
    usable = np.zeros(len(target_open_ms), dtype=bool)
    own, btc = [], []
    for times, mine, other in zip(found.times, found.candles, found.reference, strict=True):
        made_at = np.searchsorted(times, target_open_ms - step)
        here = (made_at < len(times)) & (made_at + 1 >= context)
        here[here] = times[made_at[here]] == target_open_ms[here] - step
        usable |= here
        for end in made_at[here] + 1:
            own.append(mine[end - context : end])
            btc.append(other[end - context : end])
    empty = np.empty((0, context, len(COLUMNS)), dtype=np.float32)
    return usable, {"candles": np.stack(own) if own else empty, "reference": np.stack(btc) if btc else empty}


def _segment_rows(
    times: NDArray[np.int64], own: Grid, btc: Grid, step: int, kind: Architecture, length: int
) -> Samples:
    with torch.no_grad():
        sequence, static = kind.features(torch.from_numpy(own)[None], torch.from_numpy(btc)[None])
    windows = sequence[0].unfold(0, length, 1).transpose(1, 2)  # [n, length, features]
    last = torch.arange(kind.warmup + length - 1, len(times) - 1)  # the row that each forecast is made at
    close = torch.from_numpy(own[:, 3])
    return Samples(
        windows[: len(last)],
        static[0][length - 1 : length - 1 + len(last)],
        (close[last + 1] / close[last]).log(),
        times[last.numpy()] + step,
    )


def _check(candles: Candles, whose: str, step: int) -> None:
    prices = np.stack([candles.open, candles.high, candles.low, candles.close])
    if len(candles) == 0:
        raise NotEnoughHistory(f"{whose} has no closed candle before the time of training: fetch history first")
    if not (np.isfinite(prices).all() and (prices > 0).all()):
        raise BadCandles(f"{whose} has prices that are not finite and positive: clean the candles first")
    if not (np.isfinite(candles.volume) & (candles.volume >= 0)).all():
        raise BadCandles(f"{whose} has volumes that are not finite or below zero: clean the candles first")
    if not (np.diff(candles.open_time_ms) > 0).all() or (candles.open_time_ms % step).any():
        raise BadCandles(f"{whose} has open times that do not rise on the grid: clean the candles first")
    if (candles.close == candles.close[0]).all():
        raise BadCandles(f"{whose} has a price that never moves: the market is halted or not real")
    idle = float((candles.volume == 0).mean())
    if idle > _MOST_IDLE:
        raise BadCandles(f"{whose} has no volume in {idle:.0%} of its candles: the market is halted or idle")
