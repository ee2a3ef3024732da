"""What DAG runs and training jobs pass on: their items, results, comparisons and scores."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.documents.forecasts import Document, Quantiles


class MeanLosses(Document):
    """Compares two models over several horizons by the mean of (pinball loss / naive's loss at that horizon).

    horizons: how many horizons of HORIZON_GRID were compared, each with the same weight. t: Diebold-Mariano statistic,
    above zero when the challenger is better.
    """

    horizons: int
    challenger: float
    champion: float
    t: float


class Comparison(Document):
    """Compares a challenger with the present champion and the naive forecast, on the same held-out candles.

    Pinball losses are means at the next close, in log return. `t` is the Diebold-Mariano statistic of the difference to
    the champion there, above zero when the challenger is better. `mean` compares over the horizons: None if one of the
    two has the next close alone, as level_mse has. skill_vs_naive and t_vs_naive: of the mean over the challenger's
    horizons. champion_version: None without a champion. champion_pinball: None for foundation models, which are not
    compared by loss.
    """

    champion_version: int | None
    challenger_pinball: float
    champion_pinball: float | None
    t: float | None
    naive_pinball: float
    t_vs_naive: float
    skill_vs_naive: float
    mean: MeanLosses | None
    challenger_horizons: int
    champion_horizons: int


class BackfilledForecast(Quantiles):
    """The forecast that a model would have served at its as_of; a backfill stores it.

    Its own quantiles are those of the next close, `later` those of the closes after it.
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

    The status is one of these:
    - `begun`: the pair is in training, or its worker died if the job has ended. With `metrics`, its model is being
      registered: if the worker dies after that, the version counts as trained.
    - `trained`: see TrainedResult. `forecast` is None if candles just before `as_of_ms` are missing.
    - `failed`: see `reason` and `kind`.
    - `postponed`: the pair was not begun, because the run's compute budget was spent.
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
    """Skill and coverage of the served forecasts of the scored candles at one horizon; None without any forecast.

    n: forecasts that were judged. skill_vs_naive: fraction of pinball loss saved. coverage_80: share of closes inside
    q10..q90. t_vs_naive: Diebold-Mariano statistic, below zero when the forecasts are worse than naive. skipped:
    forecasts that were not judged, because the candle of their target is missing.
    """

    horizon: int
    n: int
    skill_vs_naive: float | None
    coverage_80: float | None
    t_vs_naive: float | None
    skipped: int


class Score(Document):
    """Skill, coverage and drift of the served forecasts of the scored candles, over all horizons.

    n: forecasts that were judged at the next close. skill_vs_naive, t_vs_naive, coverage_80: as in HorizonScore, the
    mean over the horizons with enough forecasts, each with the same weight; see record/drift.py. shift: population
    stability index of each feature. horizons: those of HORIZON_GRID that were forecast, the shortest first.
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
    """One pair of a DAG run. `train` is false for BTC when only its candles are needed, which every model reads."""

    interval: Interval
    as_of_ms: int
    train: bool


class ChosenPair(PairDocument):
    """A pair of the universe, and its traded volume over the universe's history, in the quote currency."""

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
    """The outcome of a fetch of many pairs. failed: why each of these pairs has no new candles."""

    fetched: tuple[Pair, ...]
    failed: dict[Pair, str]


class TrainBatch(Document):
    """One Ray job of a DAG run: arguments of RayJobOperator. `is_limited`: whether it is stopped after a while."""

    entrypoint: str
    metadata: dict[str, str]
    is_limited: bool
