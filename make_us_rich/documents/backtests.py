"""The stored result of `make bench-forecast`, which the figures of the documentation are written from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from make_us_rich.core.interval import Interval
from make_us_rich.documents.forecasts import Document
from make_us_rich.documents.foundations import BaselineSkill


class HorizonResult(Document):
    """How the model did at one horizon: means over pair-windows. Gains are fractions of the naive forecast's score."""

    horizon: int
    skills: tuple[BaselineSkill, ...]
    coverage_80: float
    coverage_90: float
    uneven_coverage: Annotated[float, Field(description="share of pair-windows whose 80 % band covers outside 75-85 %")]
    mae_gain: float
    rmse_gain: float
    direction: Annotated[float, Field(description="share of moves whose direction the median has right")]
    brier_gain: float
    brier_up_gain: float
    beyond_1: Annotated[float, Field(description="share of closes outside the 1 % and 99 % points")]

    def skill(self, baseline: str) -> BaselineSkill:
        """Return the comparison with one baseline. Raises KeyError."""
        return {item.baseline: item for item in self.skills}[baseline]


class BacktestResult(Document):
    """One run of the shipped recipe over the reported windows.

    recipe: the training config. candles: of each pair, the SHA-256 of its values (market.recordings.digest).
    windows_from_ms: the open times of their first candles; window_candles: length of each.
    """

    measured: Annotated[str, Field(description="day of the run, ISO 8601")]
    interval: Interval
    recipe: dict[str, str | int | float]
    candles: dict[str, str]
    windows_from_ms: tuple[int, ...]
    window_candles: int
    pair_windows: int
    horizons: tuple[HorizonResult, ...]
    inside_throughout: float | None
