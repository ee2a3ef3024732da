"""What DAG runs and training jobs pass on: their items, results, comparisons and scores."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.documents.forecasts import Document, Quantiles


class MeanLosses(Document):
    """Two models over several horizons: for each the mean of (its pinball loss / naive's at that horizon).

    horizons: how many horizons of HORIZON_GRID were compared, each with the same weight. t: Diebold-Mariano, above zero
    when the challenger is better.
    """

    horizons: int
    challenger: float
    champion: float
    t: float


class Comparison(Document):
    """Challenger against the champion of that moment and the naive forecast, on the same held-out candles.

    Pinball losses are means at the next close, in log return, and `t` is the Diebold-Mariano statistic of the
    difference to the champion there: above zero when the challenger is better. `mean` compares over the horizons, None
    if one of the two has the next close alone. skill_vs_naive and t_vs_naive: of the mean over the challenger's
    horizons. champion_version None: there is none; champion_pinball None: it is not compared by loss, as foundation
    models are not. The defaults read the results of versions that had the next close alone.
    """

    champion_version: int | None
    challenger_pinball: float
    champion_pinball: float | None
    t: float | None
    naive_pinball: float
    t_vs_naive: float
    skill_vs_naive: float | None = None
    mean: MeanLosses | None = None
    challenger_horizons: int = 1
    champion_horizons: int = 1


class BackfilledForecast(Quantiles):
    """The forecast that a model would have served at its as_of; a backfill stores it.

    Its own quantiles are those of the next close; `later` are those of the closes after it, none in the results of
    versions that forecast the next close alone.
    """

    last_close: float
    later: tuple[Quantiles, ...] = ()

    @property
    def horizons(self) -> tuple[Quantiles, ...]:
        """The quantiles of each horizon, the next close first."""
        return (self, *self.later)


class PairDocument(Document):
    """Any document about one pair."""

    pair: Pair


class JobResult(PairDocument):
    """The result of a training job for one pair, stored as a JSON object in S3 and read by Airflow.

    `begun`: in training; if the job has ended, the worker died. `begun` with `metrics`: trained and being registered,
    so that a version whose worker died before it could write `trained` can still be compared. `trained`: see
    TrainedResult; `forecast` is None if candles just before `as_of_ms` are missing. `failed`: `reason` and `kind`.
    `postponed`: not begun, because the run's compute budget was spent.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")  # a metric may be NaN

    status: Literal["begun", "trained", "failed", "postponed"]
    reason: str | None = None
    kind: str | None = None  # name of the error's class
    lost: int = 0  # how often its worker died
    seconds: float = 0.0
    name: str | None = None
    interval: str | None = None
    as_of_ms: int | None = None
    metrics: dict[str, float] | None = None
    comparison: Comparison | None = None
    forecast: BackfilledForecast | None = None
    version: int | None = None
    run_id: str | None = None


class TrainedResult(JobResult):
    """A `JobResult` with status `trained`: a version of a model is registered."""

    status: Literal["trained"]
    name: str
    interval: str
    as_of_ms: int
    metrics: dict[str, float]
    comparison: Comparison
    version: int
    run_id: str


SCORED_CANDLES = 168
"""The newest candles whose forecasts are scored, a week of hours."""


class HorizonScore(Document):
    """How the served forecasts of the scored candles did at one horizon; the figures are None where none was judged.

    n: forecasts that were judged. skill_vs_naive: fraction of pinball loss saved. coverage_80: share of closes inside
    q10..q90. t_vs_naive: Diebold-Mariano, below zero when worse. skipped: forecasts that were not judged, because a
    candle is missing between their as_of and their target.
    """

    horizon: int
    n: int
    skill_vs_naive: float | None
    coverage_80: float | None
    t_vs_naive: float | None
    skipped: int


class Score(Document):
    """How the served forecasts of the scored candles did.

    n: forecasts that were judged at the next close. skill_vs_naive, t_vs_naive and coverage_80: as in HorizonScore, but
    the mean over the horizons with enough forecasts, each with the same weight; see record/drift.py. shift:
    population stability index by feature. horizons: those of HORIZON_GRID that were forecast, the shortest first.
    """

    n: int
    skill_vs_naive: float
    t_vs_naive: float
    coverage_80: float
    shift: dict[str, float]
    drifted: bool
    reason: str
    horizons: tuple[HorizonScore, ...] = ()


class PairScore(PairDocument):
    """The score of one pair as of one time; without a score if there was no forecast to score."""

    market: str
    interval: Interval
    as_of_ms: int
    score: Score | None


class PairHealth(PairDocument):
    """What the health check found about one served pair."""

    problem: str | None


class RunItem(PairDocument):
    """One market of a DAG run. Only its candles are fetched if `train` is false: every model reads those of BTC."""

    interval: Interval
    as_of_ms: int
    train: bool


class ChosenPair(PairDocument):
    """A pair of the universe, and what was traded of it over the universe's history, in the quote currency."""

    quote_volume: float


class Universe(Document):
    """The pairs that a foundation model learns from, as chosen at the end of a week.

    until_ms: the end of the last week that was ranked. weeks: how many were. count: how many pairs were wanted.
    chosen: the most traded first.
    """

    market: str
    interval: Interval
    until_ms: int
    weeks: int
    count: int
    chosen: tuple[ChosenPair, ...]


class FetchedPairs(Document):
    """What a fetch of many pairs did. failed: the reason of each pair without new candles."""

    fetched: tuple[Pair, ...]
    failed: dict[Pair, str]


class TrainBatch(Document):
    """One Ray job of a DAG run: arguments of RayJobOperator. `is_limited`: whether it is stopped after a while."""

    entrypoint: str
    metadata: dict[str, str]
    is_limited: bool
