"""How the served forecasts of a pair did at one horizon, with the uncertainty of each figure; see figures.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.distribution import DEFAULT_TAIL, probability_below
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database.outcomes import ScoredForecasts
from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.record.figures import (
    BASELINE_NAMES,
    HIGH,
    LOW,
    MEDIAN,
    Z_95,
    MeasuredSkill,
    Share,
    inside_80,
    losses,
    share,
    skill,
)

PIT_BINS = 10
RECENT = 168
"""Closes that are shown one by one: a week of hours."""

_MISSES = 5


@dataclass(frozen=True)
class Week:
    """The closes of one week, from `monday` on, and the share of them inside the 80 % band."""

    monday: date
    coverage: Share


@dataclass(frozen=True)
class Histogram:
    """How many closes fell into each tenth of the forecast distribution, and between which counts 95 % should be."""

    counts: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Miss:
    """A close outside its 80 % band. beyond: how far, as a fraction of the nearer end of the band."""

    made_at: datetime
    target_close_ms: int
    low: float
    high: float
    close: float
    beyond: float


@dataclass(frozen=True)
class Recent:
    """A close with the 80 % band and the median that were forecast for it."""

    target_close_ms: int
    low: float
    median: float
    high: float
    close: float

    @property
    def inside(self) -> bool:
        return self.low <= self.close <= self.high


@dataclass(frozen=True)
class ModelUse:
    """A model version, how many forecasts it made, and the first and the last close that they were of."""

    version: int
    foundation: bool
    n: int
    first_close_ms: int
    last_close_ms: int


@dataclass(frozen=True)
class TrackRecord:
    """The record of one pair, interval and horizon. reliability: the share of closes below each of QUANTILE_LEVELS.

    independent: n / h. models: that forecast, newest first; by_foundation: the share by the model of all pairs.
    recent: the last RECENT closes, oldest first.
    """

    pair: Pair
    interval: Interval
    horizon: int
    n: int
    independent: float
    first_made_at: datetime
    last_close_ms: int
    models: tuple[ModelUse, ...]
    by_foundation: float
    coverage: Share
    weeks: tuple[Week, ...]
    skills: tuple[MeasuredSkill, ...]
    reliability: tuple[Share, ...]
    pit: Histogram
    misses: tuple[Miss, ...]
    recent: tuple[Recent, ...]


def track_record(pair: Pair, found: ScoredForecasts) -> TrackRecord | None:
    """Return the record of scored forecasts; None without any."""
    if len(found) == 0:
        return None
    horizon = found.horizon
    inside = inside_80(found)
    below = found.close[:, None] <= found.quantiles
    return TrackRecord(
        pair=pair,
        interval=found.interval,
        horizon=horizon,
        n=len(found),
        independent=len(found) / horizon,
        first_made_at=min(found.made_at),
        last_close_ms=int(found.target_close_ms[-1]),
        models=_models(found),
        by_foundation=float(found.foundation.mean()),
        coverage=share(inside, horizon),
        weeks=tuple(_weeks(found.target_close_ms, inside, horizon)),
        skills=tuple(_skills(found)),
        reliability=tuple(share(below[:, column], horizon) for column in range(len(QUANTILE_LEVELS))),
        pit=_pit(found),
        misses=tuple(_misses(found)),
        recent=tuple(_recent(found)),
    )


def _weeks(closed_ms: NDArray[np.int64], inside: NDArray[np.bool_], horizon: int) -> Iterator[Week]:
    """Yield the weeks in which closes came, oldest first. A close at midnight on Monday ends the week before."""
    days = (closed_ms - 1) // 86_400_000
    mondays = days - (days + 3) % 7  # 1970-01-01 was a Thursday
    for monday in np.unique(mondays):
        yield Week(date(1970, 1, 1) + timedelta(days=int(monday)), share(inside[mondays == monday], horizon))


def _skills(found: ScoredForecasts) -> Iterator[MeasuredSkill]:
    for baseline in BASELINE_NAMES:
        _, ours, theirs = losses(found, baseline)
        if len(ours):
            yield skill(ours, theirs, horizon=found.horizon, baseline=baseline)


def _pit(found: ScoredForecasts) -> Histogram:
    """Count the probability integral transforms by tenths. The tails beyond q05 and q95 lie inside the outer tenths."""
    tails = np.tile(DEFAULT_TAIL, (len(found), 1))
    positions = probability_below(np.log(found.close), np.log(found.quantiles), tails)
    tenths = np.minimum((positions * PIT_BINS).astype(int), PIT_BINS - 1)
    counts, expected = np.bincount(tenths, minlength=PIT_BINS), len(found) / PIT_BINS
    half = Z_95 * math.sqrt(expected * (1 - 1 / PIT_BINS) * found.horizon)
    return Histogram(tuple(counts.tolist()), max(0.0, expected - half), expected + half)


def _models(found: ScoredForecasts) -> tuple[ModelUse, ...]:
    closes: dict[tuple[int, bool], list[int]] = {}
    each_forecast = zip(found.version.tolist(), found.foundation.tolist(), found.target_close_ms.tolist(), strict=True)
    for version, foundation, close_ms in each_forecast:
        closes.setdefault((version, foundation), []).append(close_ms)
    uses = [ModelUse(*model, len(times), times[0], times[-1]) for model, times in closes.items()]
    return tuple(sorted(uses, key=lambda use: use.last_close_ms, reverse=True))


def _recent(found: ScoredForecasts) -> Iterator[Recent]:
    bands = found.quantiles[-RECENT:, [LOW, MEDIAN, HIGH]].tolist()
    closes = zip(found.target_close_ms[-RECENT:].tolist(), bands, found.close[-RECENT:].tolist(), strict=True)
    for time_ms, (low, median, high), close in closes:
        yield Recent(time_ms, low, median, high, close)


def _misses(found: ScoredForecasts) -> Iterator[Miss]:
    """Yield the closes farthest from their band, in units of its width, farthest first.

    One move of the price makes h neighbouring forecasts miss, so the targets of those shown are h candles apart.
    """
    low, high, close = np.log(found.quantiles[:, LOW]), np.log(found.quantiles[:, HIGH]), np.log(found.close)
    beyond = np.maximum(low - close, close - high)
    order = np.argsort(-beyond / np.maximum(high - low, 1e-9), kind="stable")
    targets, chosen = found.target_close_ms, list[int]()
    for row in (int(each) for each in order if beyond[each] > 0):
        if len(chosen) == _MISSES:
            return
        if all(abs(targets[row] - targets[other]) >= found.horizon * found.interval.ms for other in chosen):
            chosen.append(row)
            bottom, top = (float(found.quantiles[row, column]) for column in (LOW, HIGH))
            price = float(found.close[row])
            made_at = found.made_at[row].astimezone(UTC)
            beyond_end = price / (top if price > top else bottom) - 1
            yield Miss(made_at, int(targets[row]), bottom, top, price, beyond_end)
