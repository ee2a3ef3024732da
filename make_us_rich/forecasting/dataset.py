"""From candles to samples: aligned gap-free segments, features, targets, and the split in time."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from make_us_rich.core.errors import BadCandles, NotEnoughHistory
from make_us_rich.core.interval import Interval
from make_us_rich.documents import HORIZONS
from make_us_rich.forecasting.architectures import TrainingConfig, architecture, context_length
from make_us_rich.forecasting.features import CLOSE, feature_layout, range_deviation
from make_us_rich.forecasting.onnx_model import COLUMNS, GraphInputs, candle_array
from make_us_rich.forecasting.samples import Samples, Split, concatenate
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles, break_text, closed, regular_segments
from make_us_rich.market.stability import why_too_stable

_log = logging.getLogger(__name__)

_MAX_IDLE_SHARE = 0.5  # of candles without volume

CandleArray = NDArray[np.float32]
"""Candles [n, 6], columns as in onnx_model.COLUMNS, oldest first."""


@dataclass(frozen=True, eq=False)
class AlignedCandles:
    """Gap-free segments in which the pair and BTC both have candles, with the same open times; oldest first."""

    times: list[NDArray[np.int64]]
    candles: list[CandleArray]
    reference: list[CandleArray]


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """The samples of one pair, the aligned candles that they were made of, and all closed candles, for baselines."""

    aligned: AlignedCandles
    split: Split
    closed: Candles


def prepare(candles: Candles, reference: Candles, task: TrainingTask, *, may_have_ended: bool = False) -> PreparedPair:
    """Make the samples of the candles that closed at or before the task's as_of, split into train, validation, holdout.

    `may_have_ended`: accept a delisted pair, which has nothing to validate on and no holdout. Raises NotEnoughHistory,
    BadCandles, or InputError for an unknown architecture.
    """
    interval, as_of_ms, config = task.interval, task.as_of_ms, task.config
    task.on_step("features")
    aligned = align_candles(candles, reference, interval=interval, as_of_ms=as_of_ms, max_bridged=config.max_bridged)
    task.on_step("sequences")
    samples = make_samples(aligned, interval=interval, config=config)
    task.on_step("split")
    parts = split(samples, interval=interval, as_of_ms=as_of_ms, config=config, may_have_ended=may_have_ended)
    return PreparedPair(aligned, parts, closed(candles, interval, as_of_ms))


def align_candles(
    candles: Candles, reference: Candles, *, interval: Interval, as_of_ms: int, max_bridged: int
) -> AlignedCandles:
    """Align the candles of a pair and of BTC that closed at or before `as_of_ms`; later ones are not read.

    Raises BadCandles or NotEnoughHistory.
    """
    own = closed(candles, interval, as_of_ms)
    btc = closed(reference, interval, as_of_ms)
    _check(own, "the pair", interval.ms)
    _check(btc, "the reference, btc_usdt", interval.ms)
    if note := break_text(own):
        _log.warning("%s", note)
    aligned = AlignedCandles([], [], [])
    for segment in regular_segments(own, interval, max_bridged):
        for partner in regular_segments(btc, interval, max_bridged):
            times, left, right = np.intersect1d(
                segment.candles.open_time_ms, partner.candles.open_time_ms, return_indices=True
            )
            if len(times):
                aligned.times.append(times)
                aligned.candles.append(candle_array(segment.candles[left]))
                aligned.reference.append(candle_array(partner.candles[right]))
    return aligned


def make_samples(aligned: AlignedCandles, *, interval: Interval, config: TrainingConfig) -> Samples:
    """Make a sample of every candle that has enough history before it and a next candle after it.

    Raises NotEnoughHistory when there is none.
    """
    context = context_length(config)
    parts = [
        _segment_samples(times, own, btc, interval.ms, config)
        for times, own, btc in zip(aligned.times, aligned.candles, aligned.reference, strict=True)
        if len(times) > context
    ]
    if not parts:
        longest = max((len(times) for times in aligned.times), default=0)
        raise NotEnoughHistory(
            f"the longest stretch without a long gap or a break of the price has {longest} candles, "
            f"{context + 1} are needed: fetch more history"
        )
    return concatenate(parts)


def split(
    samples: Samples, *, interval: Interval, as_of_ms: int, config: TrainingConfig, may_have_ended: bool = False
) -> Split:
    """Split by time: the last `holdout` candles, the `validation` candles before them, and the rest of `training`.

    Features only look back, and samples before the holdout whose targets reach into it are left out: training knows
    nothing of the holdout. Raises NotEnoughHistory; with `may_have_ended` only for too few samples to train on, because
    a delisted pair has no newer ones.
    """
    step = interval.ms
    holdout_start = as_of_ms - config.holdout * step
    validation_start = holdout_start - config.validation * step
    starts = [holdout_start - config.training * step, validation_start, holdout_start]
    oldest, first, second = (int(index) for index in np.searchsorted(samples.target_open_ms, starts))
    past = samples[oldest:second].known_at(holdout_start, step)
    train, validation = past[: first - oldest].complete(), past[first - oldest :].complete()
    parts = Split(train, validation, samples[second:], past)
    for name, part, minimum in (
        ("to train on", parts.train, config.least_training),
        ("to validate on", parts.validation, config.validation // 2),
        ("in the holdout", parts.holdout, config.holdout // 2),
    ):
        if len(part) < minimum and not (may_have_ended and part is not parts.train):
            raise NotEnoughHistory(
                f"{len(part)} usable candles {name}, {minimum} needed: the pair is too young, or was halted"
            )
    return parts


def graph_inputs(
    aligned: AlignedCandles, target_open_ms: NDArray[np.int64], *, interval: Interval, context: int
) -> tuple[NDArray[np.bool_], GraphInputs]:
    """Return (which targets have `context` candles before them, the ONNX graph's inputs for these, [n, context, 6])."""
    step = interval.ms
    usable = np.zeros(len(target_open_ms), dtype=bool)
    own, btc = [], []
    for times, candles, reference in zip(aligned.times, aligned.candles, aligned.reference, strict=True):
        last = np.searchsorted(times, target_open_ms - step)  # the candle before each target
        here = (last < len(times)) & (last + 1 >= context)
        here[here] = times[last[here]] == target_open_ms[here] - step
        usable |= here
        for end in last[here] + 1:
            own.append(candles[end - context : end])
            btc.append(reference[end - context : end])
    empty = np.empty((0, context, len(COLUMNS)), dtype=np.float32)
    return usable, {"candles": np.stack(own) if own else empty, "reference": np.stack(btc) if btc else empty}


def _segment_samples(
    times: NDArray[np.int64], own: CandleArray, btc: CandleArray, step: int, config: TrainingConfig
) -> Samples:
    length, features = config.length, architecture(config.architecture).features
    with torch.no_grad():
        sequence, static = features(
            torch.from_numpy(own)[None], torch.from_numpy(btc)[None], feature_layout(config.interval)
        )
    windows = sequence[0].unfold(0, length, 1).transpose(1, 2)  # [n, length, features]
    last = torch.arange(context_length(config) - 1, len(times) - 1)  # the newest candle known to each forecast
    candles = torch.from_numpy(own).double()
    return Samples(
        windows[: len(last)],
        static[0][length - 1 : length - 1 + len(last)],
        _returns_ahead(candles[:, CLOSE].log(), last),
        _returns_ahead(range_deviation(candles).square().cumsum(0), last).sqrt(),
        times[last.numpy()] + step,
    )


def _returns_ahead(level: Tensor, last: Tensor) -> Tensor:
    """Return the change of `level` [n] from each of `last` [k] to 1 to HORIZONS candles later, [k, HORIZONS].

    NaN where there is no such candle.
    """
    padded = torch.cat([level, level.new_full((HORIZONS,), float("nan"))])
    ahead = padded[last.unsqueeze(1) + torch.arange(1, HORIZONS + 1)]
    return (ahead - level[last].unsqueeze(1)).float()


def _check(candles: Candles, owner: str, step: int) -> None:
    prices = np.stack([candles.open, candles.high, candles.low, candles.close])
    if len(candles) == 0:
        raise NotEnoughHistory(f"{owner} has no closed candle before the time of training: fetch history first")
    if not (np.isfinite(prices).all() and (prices > 0).all()):
        raise BadCandles(f"{owner} has prices that are not finite and positive: clean the candles first")
    if not (np.isfinite(candles.volume) & (candles.volume >= 0)).all():
        raise BadCandles(f"{owner} has volumes that are not finite or below zero: clean the candles first")
    if not (np.diff(candles.open_time_ms) > 0).all() or (candles.open_time_ms % step).any():
        raise BadCandles(f"{owner} has open times that do not rise on the grid: clean the candles first")
    if (candles.close == candles.close[0]).all():
        raise BadCandles(f"{owner} has a price that never moves: trading is halted, or the candles are not real")
    if stable := why_too_stable(candles, step):
        raise BadCandles(f"{owner} {stable}")
    idle = float((candles.volume == 0).mean())
    if idle > _MAX_IDLE_SHARE:
        raise BadCandles(f"{owner} has no volume in {idle:.0%} of its candles: trading is halted or idle")
